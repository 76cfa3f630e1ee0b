/** The part of `node:quic` that is used here; no published types cover Bun and Node alike. */

/** An address of a path. */
export interface SocketAddress {
  readonly address: string;
  readonly port: number;
}

/** `Symbol.for("Stream.drainableProtocol")`: resolves when a full writer takes data again. */
export const DRAINABLE: unique symbol = Symbol.for("Stream.drainableProtocol") as never;

/** The writing side of a stream. */
export interface QuicWriter {
  readonly desiredSize: number | null;
  /** Takes all of the chunk, or nothing and returns false. */
  writeSync(chunk: Uint8Array): boolean;
  endSync(): number;
  fail(reason?: unknown): void;
  [DRAINABLE](): Promise<boolean> | null;
}

/** A stream; iterates over batches of chunks. */
export interface QuicStream extends AsyncIterable<Uint8Array<ArrayBuffer>[]> {
  readonly direction: "bidi" | "uni";
  readonly closed: Promise<void>;
  readonly pending: boolean;
  readonly writer: QuicWriter;
  destroy(error?: unknown): void;
  stopSending(code?: bigint): void;
  resetStream(code?: bigint): void;
}

/** A connection. */
export interface QuicSession {
  readonly opened: Promise<unknown>;
  readonly closed: Promise<void>;
  readonly destroyed: boolean;
  readonly path: { readonly remote: SocketAddress } | null;
  readonly peerCertificate: { readonly raw: Uint8Array } | null | undefined;
  readonly stats: {
    readonly smoothedRtt: bigint;
    readonly cwnd: bigint;
    readonly bytesSent: bigint;
    readonly bytesRecv: bigint;
    readonly pktLost: bigint;
  };
  onstream: ((stream: QuicStream) => void) | undefined;
  createBidirectionalStream(): Promise<QuicStream>;
  createUnidirectionalStream(): Promise<QuicStream>;
  close(info: { code: number; type: "application"; reason: string }): Promise<void>;
  destroy(): void;
}

/** A UDP port with its connections. */
export interface QuicEndpoint {
  readonly address: SocketAddress | undefined;
  readonly closed: Promise<void>;
  destroy(): void;
  setSNIContexts(contexts: object, options: { replace: boolean }): void;
}

/** The module. */
export interface NodeQuic {
  listen(onSession: (session: QuicSession) => void, options: object): Promise<QuicEndpoint>;
  connect(address: string, options: object): Promise<QuicSession>;
  readonly QuicEndpoint: new (options: object) => QuicEndpoint;
}
