import { concat } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { TAG_BYTES } from "../identity/session.ts";
import type { Sealer, Unsealer } from "../identity/session.ts";
import type { Pipe } from "../transport/contract.ts";
import { FrameType } from "../wire/frame_types.ts";
import { MAX_BODY_BYTES } from "../wire/limits.ts";
import { ByteReader, varintLength, writeVarint } from "../wire/varint.ts";
import { FrameReader } from "./frame_reader.ts";

/** Bytes that are sealed together at most. */
const RECORD_BYTES = MAX_BODY_BYTES - TAG_BYTES;

/** What seals and opens one pipe. */
export interface PipeSeals {
  readonly out: Sealer;
  readonly in: Unsealer;
}

/** How a pipe comes to its seals. */
export interface SealedPipeOptions {
  /** There from the beginning at the end that opened the pipe. */
  readonly seals?: PipeSeals;
  /** Its number, to be told to the peer first. */
  readonly number?: number;
  /** At the other end: the seals of the pipe with this number. @throws ProtocolError `unsealed` */
  readonly sealsOf?: (number: number) => PipeSeals;
  /** Sealed bytes that were read from the pipe already. */
  readonly unread?: Bytes;
}

/**
 * A pipe through somebody's proxy: what is written is cut into records, `varint length | SEALED |
 * ciphertext`, each under the next number of its key. What was changed, left out, doubled or moved
 * on the way is a fault; an end that was brought about on the way is what it is on every pipe, an end
 * without END.
 */
export class SealedPipe implements Pipe {
  readonly kind: "bidirectional" | "unidirectional";
  readonly local: boolean;
  onEnd: ((clean: boolean) => void) | undefined;
  /** Called once, in place of `onEnd`, when what arrived is not what the peer sealed. */
  onFault: ((error: ProtocolError) => void) | undefined;
  readonly #pipe: Pipe;
  readonly #options: SealedPipeOptions;
  readonly #reader = new FrameReader(MAX_BODY_BYTES + 1);
  #seals: PipeSeals | undefined;
  #onData: ((chunk: Bytes) => void) | undefined;
  #waiting: Uint8Array[] = [];
  #isEnding = false;
  #isOver = false;

  constructor(pipe: Pipe, options: SealedPipeOptions) {
    this.kind = pipe.kind;
    this.local = pipe.local;
    this.#pipe = pipe;
    this.#options = options;
    this.#seals = options.seals;
    if (options.unread !== undefined) this.#reader.push(options.unread);
    if (options.number !== undefined) {
      const body = new Uint8Array(varintLength(options.number));
      writeVarint(body, 0, options.number);
      pipe.write(record(FrameType.SEALED_PIPE, body));
    }
  }

  get onDrain(): (() => void) | undefined {
    return this.#pipe.onDrain;
  }
  set onDrain(handler: (() => void) | undefined) {
    this.#pipe.onDrain = handler;
  }

  get onData(): ((chunk: Bytes) => void) | undefined {
    return this.#onData;
  }
  set onData(handler: ((chunk: Bytes) => void) | undefined) {
    this.#onData = handler;
    // Bytes are held back below until somebody wants them.
    this.#pipe.onData = (chunk) => this.#receive(chunk);
    this.#pipe.onEnd = (clean) => {
      if (!this.#isOver) this.onEnd?.(clean);
    };
    if (this.#reader.unread > 0) queueMicrotask(() => this.#read());
  }

  write(chunk: Uint8Array): boolean {
    if (this.#isEnding || this.#isOver) return false;
    const seals = this.#seals;
    if (seals === undefined) {
      // The peer's number is the first thing that it sends.
      this.#waiting.push(chunk);
      return true;
    }
    let hasRoom = true;
    for (let at = 0; at < chunk.length; at += RECORD_BYTES) {
      const plain = chunk.subarray(at, at + RECORD_BYTES);
      hasRoom = this.#pipe.write(record(FrameType.SEALED, seals.out.seal(plain)));
    }
    return hasRoom;
  }

  end(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    if (this.#seals !== undefined) this.#pipe.end();
  }

  destroy(): void {
    this.#isOver = true;
    this.#pipe.destroy();
  }

  #receive(chunk: Bytes): void {
    if (this.#isOver) return;
    this.#reader.push(chunk);
    this.#read();
  }

  #read(): void {
    try {
      while (!this.#isOver && this.#reader.next()) this.#take(this.#reader.type, this.#reader.body);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#isOver = true;
      this.onFault?.(error);
    }
  }

  #take(type: number, body: Bytes): void {
    const { sealsOf } = this.#options;
    if (this.#seals === undefined && sealsOf !== undefined && type === FrameType.SEALED_PIPE) {
      this.#begin(sealsOf(new ByteReader(body).varint()));
      return;
    }
    const plain = type === FrameType.SEALED ? this.#seals?.in.open(body) : undefined;
    if (plain === undefined) {
      throw new ProtocolError("unsealed", "a pipe carried what the peer has not sealed");
    }
    this.#onData?.(plain);
  }

  #begin(seals: PipeSeals): void {
    this.#seals = seals;
    const waiting = this.#waiting;
    this.#waiting = [];
    const isEnding = this.#isEnding;
    this.#isEnding = false;
    for (const chunk of waiting) this.write(chunk);
    if (isEnding) this.end();
  }
}

function record(type: number, body: Uint8Array): Bytes {
  const head = new Uint8Array(varintLength(body.length + 1) + 1);
  head[writeVarint(head, 0, body.length + 1)] = type;
  return concat([head, body]);
}
