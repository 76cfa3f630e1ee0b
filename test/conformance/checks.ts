/** What holds between any two adapters, in one process or in two: one list for all of them. */
import assert from "node:assert/strict";
import { EMPTY, utf8 } from "../../src/base/bytes.ts";
import type { Connection, DialOptions, Listener } from "../../src/transport/contract.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { waitFor } from "../harness.ts";
import { listenToWatch, offer, talk } from "./framed.ts";
import { collect, writeAll } from "./world.ts";

/** The other end of a check. */
export interface Far {
  /** Dials the echo service (`serveEcho`). */
  echo(overrides?: Partial<DialOptions>): Promise<Connection>;
  /** Dials the service of framed pipes (`serveFramed`). */
  framed(overrides?: Partial<DialOptions>): Promise<Connection>;
  /** A listener of this end: dials may leave from its port. */
  readonly own: Listener;
  /** Pipes of each kind that the other end allows. */
  readonly maxPipes: number;
  /** How many connections to have at once, how often to connect and close, bytes to offer. */
  readonly connections: number;
  readonly cycles: number;
  readonly offeredBytes: number;
  /** Called now and then: fails when a process has grown. `begin` sets what it is compared with. */
  watch(what: "begin" | "memory" | "memory of connections" | "handles"): void | Promise<void>;
}

/** One check; `title` goes behind the name of the pair. */
export interface Check {
  readonly title: string;
  readonly timeoutMs?: number;
  run(far: Far): Promise<void>;
}

const { DATA } = FrameType;

async function using(
  dialled: Promise<Connection>,
  body: (connection: Connection) => Promise<void>,
): Promise<void> {
  const connection = await dialled;
  try {
    await body(connection);
  } finally {
    connection.close(1, "done");
    await connection.closed;
  }
}

async function ask(connection: Connection, text: string): Promise<void> {
  const pipe = await connection.openPipe("bidirectional");
  const answer = collect(pipe);
  pipe.write(utf8(text));
  pipe.end();
  assert.equal(new TextDecoder().decode((await answer).bytes), text);
}

/** The checks. */
export const checks: readonly Check[] = [
  {
    title: "unidirectional pipes go both ways and carry a megabyte",
    run: (far) =>
      using(far.echo(), async (connection) => {
        const arrived = new Promise<Uint8Array>((resolve) => {
          connection.onPipe = (pipe) => void collect(pipe).then(({ bytes }) => resolve(bytes));
        });
        const bytes = new Uint8Array(1 << 20).map((_, i) => i % 251);
        const pipe = await connection.openPipe("unidirectional");
        await writeAll(pipe, bytes, 50_000);
        pipe.end();
        assert.deepEqual(await arrived, bytes);
      }),
  },
  {
    title: "a writer that does not wait loses nothing",
    run: (far) =>
      using(far.echo(), async (connection) => {
        const pipe = await connection.openPipe("bidirectional");
        const answer = collect(pipe);
        for (let i = 0; i < 64; i++) pipe.write(new Uint8Array(32 * 1024).fill(i));
        pipe.end();
        const { bytes } = await answer;
        assert.equal(bytes.length, 64 * 32 * 1024);
        assert.equal(bytes.findIndex((byte, i) => byte !== i >> 15), -1);
      }),
  },
  {
    title: "our half of a framed pipe may end while the peer's goes on",
    run: (far) =>
      using(far.framed(), async (connection) => {
        const { framed, heard, over } = await talk(connection, "echo");
        for (let i = 0; i < 1_000; i++) framed.send(0, DATA, utf8(`${i} `), EMPTY);
        framed.end();
        assert.equal(await over, "end");
        assert.equal(heard(), Array.from({ length: 1_000 }, (_, i) => `${i} `).join(""));
      }),
  },
  {
    title: "a writer that aborts tells its code and reason behind its data",
    run: (far) =>
      using(far.framed(), async (connection) => {
        const told = listenToWatch(connection);
        const { framed } = await talk(connection, "watch");
        framed.send(0, DATA, new Uint8Array(5_000), EMPTY);
        framed.abort(4711, "changed my mind");
        assert.equal(await told, "abort 4711 changed my mind, after 5000 bytes");
      }),
  },
  {
    title: "a reader that stops tells the writer its code and reason",
    run: (far) =>
      using(far.framed(), async (connection) => {
        const { framed, over } = await talk(connection, "refuse");
        framed.send(0, DATA, new Uint8Array(100_000), EMPTY);
        assert.equal(await over, "abort 77 no more of that");
        framed.destroy();
        const again = await talk(connection, "echo");
        again.framed.end();
        assert.equal(await again.over, "end");
      }),
  },
  {
    title: "a pipe that is destroyed or ends early is a failure, not an end",
    run: (far) =>
      using(far.framed(), async (connection) => {
        for (const stop of ["destroy", "end"] as const) {
          const told = listenToWatch(connection);
          const { framed } = await talk(connection, "watch");
          framed.send(0, DATA, new Uint8Array(10), EMPTY);
          // What was written has arrived when the answer to a later question has.
          const later = await talk(connection, "echo");
          later.framed.end();
          await later.over;
          framed.pipe[stop]();
          assert.match(await told, /^failure truncated, after \d+ bytes$/);
        }
      }),
  },
  {
    title: "a stalled reader bounds the memory of both ends, and then gets everything",
    timeoutMs: 90_000,
    run: (far) =>
      using(far.framed(), async (connection) => {
        // Once for the code to be warm.
        const warm = await talk(connection, "echo");
        for (let i = 0; i < 16; i++) warm.framed.send(0, DATA, new Uint8Array(60_000), EMPTY);
        warm.framed.end();
        await warm.over;
        await far.watch("begin");
        await offer(connection, far.offeredBytes, () => far.watch("memory"));
      }),
  },
  {
    title:
      "all pipes that the peer allows work at once, one more is refused by name until some end",
    timeoutMs: 60_000,
    run: (far) =>
      using(far.framed(), async (connection) => {
        const open = async (text: string) => {
          const { framed, over, heard } = await talk(connection, "echo");
          framed.send(0, DATA, utf8(text), EMPTY);
          return { text, framed, over, heard };
        };
        const refused = () =>
          connection.openPipe("bidirectional").then(
            (pipe) => {
              pipe.destroy();
              return "opened";
            },
            (error: { reason?: string }) => error.reason,
          );
        const pipes: Awaited<ReturnType<typeof open>>[] = [];
        for (let i = 0; i < far.maxPipes; i++) pipes.push(await open(`pipe ${i}`));
        for (let i = 0; i < 3; i++) assert.equal(await refused(), "pipe_limit");
        const finish = async (some: typeof pipes) => {
          for (const { framed } of some) framed.end();
          for (const { text, over, heard } of some) {
            assert.equal(await over, "end");
            assert.equal(heard(), text);
          }
        };
        await finish(pipes.splice(0, far.maxPipes / 2));
        let again: typeof pipes[number] | undefined;
        await waitFor(async () => {
          again = await open("again").catch(() => undefined);
          return again !== undefined;
        }, { what: "a pipe below the limit" });
        await finish([again as typeof pipes[number]]);
        await finish(pipes);
      }),
  },
  {
    title: "many connections at once share one port and do not mix",
    timeoutMs: 60_000,
    async run(far) {
      const connections = await Promise.all(
        Array.from(
          { length: far.connections },
          () => far.echo({ via: far.own, timeoutMs: 30_000, idleTimeoutMs: 30_000 }),
        ),
      );
      await Promise.all(connections.map((connection, i) => ask(connection, `connection ${i}`)));
      for (const connection of connections) connection.close(1, "done");
      for (const connection of connections) assert.equal((await connection.closed).by, "local");
      await using(far.echo({ via: far.own }), (connection) => ask(connection, "afterwards"));
    },
  },
  {
    title: "connecting and closing again and again leaves nothing behind",
    timeoutMs: 300_000,
    async run(far) {
      const cycle = (i: number) =>
        using(
          far.echo(i % 2 === 0 ? { via: far.own } : {}),
          (connection) => ask(connection, `cycle ${i}`),
        );
      // A heap takes some hundreds of connections to find its size.
      const warm = Math.max(40, far.cycles * 0.4);
      for (let i = 0; i < warm; i += 4) await Promise.all([0, 1, 2, 3].map((j) => cycle(i + j)));
      await far.watch("begin");
      for (let i = 0; i < far.cycles; i += 4) {
        await Promise.all([0, 1, 2, 3].map((j) => cycle(i + j)));
      }
      await far.watch("memory of connections");
      await far.watch("handles");
    },
  },
  {
    title: "keep-alive carries an idle connection past its idle timeout",
    run: (far) =>
      using(far.echo({ idleTimeoutMs: 1_000, keepAliveMs: 300 }), async (connection) => {
        await ask(connection, "before");
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        await ask(connection, "behind");
      }),
  },
];
