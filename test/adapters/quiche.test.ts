/** What the quiche driver must do beyond the conformance suite. */
import assert from "node:assert/strict";
import { quicheTransport } from "../../adapters/quic/quiche.ts";
import { realClock } from "../../src/base/real.ts";
import { randomBelow, seededRandom } from "../../src/base/random.ts";
import type { Connection, ConnectionStats, Pipe } from "../../src/transport/contract.ts";
import { conformance } from "../conformance/suite.ts";
import { collect, dial, echoServer, wordsOf, writeAll } from "../conformance/world.ts";
import { describe, runtime, test, waitFor } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";
import { portOf, udpPath } from "./udp.ts";

const ADDRESS = "quic://127.0.0.1:0";
// A closed connection answers its peer for a while: Deno's tests call that a leak.
const skip = runtime === "deno" && "Deno has a QUIC of its own";

// On Node the suite runs over quiche anyway.
if (runtime === "bun") {
  conformance({
    name: "quiche on bun",
    create: quicheTransport,
    addresses: [ADDRESS, "quic://[::1]:0"],
    deadAddress: "quic://127.0.0.1:9",
    showsCertificate: true,
    freesPorts: true,
  });
}

const statsOf = (connection: Connection) => connection.stats?.() as Required<ConnectionStats>;

/** Round trips of one byte, one after the other. */
async function echoes(
  connection: Connection,
  count: number,
  onEach: () => void = () => {},
): Promise<void> {
  const pipe = await connection.openPipe("bidirectional");
  await new Promise<void>((resolve) => {
    let left = count;
    pipe.onData = () => {
      onEach();
      if (--left === 0) resolve();
      else pipe.write(new Uint8Array(1));
    };
    pipe.write(new Uint8Array(1));
  });
  pipe.end();
}

describe("quiche", () => {
  test("a path that loses packets and changes their order loses and changes nothing", {
    skip,
  }, async () => {
    const transport = await quicheTransport();
    const listener = await echoServer(transport, ADDRESS);
    const random = seededRandom(11);
    const path = await udpPath(portOf(listener.address), (_packet, on) => {
      const luck = randomBelow(random, 100);
      if (luck < 3) return;
      if (luck < 20) setTimeout(on, 1 + randomBelow(random, 4));
      else on();
    });
    const connection = await dial(transport, `quic://127.0.0.1:${path.port}`);
    const pipe = await connection.openPipe("bidirectional");
    const answer = collect(pipe);
    const bytes = random.bytes(2 << 20);
    await writeAll(pipe, bytes, 50_000);
    pipe.end();
    assert.deepEqual((await answer).bytes, bytes);
    assert.ok(statsOf(connection).packetsLost > 0);
    connection.close(1, "done");
    await listener.close();
    path.close();
  });

  test("a round trip is measured truly, though losses make the congestion window small", {
    skip,
  }, async () => {
    const transport = await quicheTransport();
    const listener = await echoServer(transport, ADDRESS);
    const random = seededRandom(12);
    let lossPercent = 0;
    const path = await udpPath(portOf(listener.address), (_packet, on) => {
      if (randomBelow(random, 100) >= lossPercent) setTimeout(on, 5);
    });
    const connection = await dial(transport, `quic://127.0.0.1:${path.port}`);
    const pipe = await connection.openPipe("bidirectional");
    const answer = collect(pipe);
    await writeAll(pipe, new Uint8Array(300_000), 50_000);
    pipe.end();
    await answer;
    lossPercent = 10;
    const measured: number[] = [];
    await echoes(connection, 200, () => measured.push(statsOf(connection).rttMs));
    assert.ok(statsOf(connection).congestionWindow < 50_000);
    const median = measured.sort((a, b) => a - b)[100] as number;
    assert.ok(median >= 10 && median < 100, `${median} ms`);
    connection.close(1, "done");
    await listener.close();
    path.close();
  });

  test("a round trip to a peer that takes ordinary packets only is measured truly", {
    skip,
  }, async () => {
    const peer = startProgram("deno", "test/conformance/peer.ts");
    const [, address = ""] = await peer.line(/^listening (\S+)/);
    const connection = await dial(await quicheTransport(), address);
    const start = performance.now();
    await echoes(connection, 3_000);
    const { rttMs } = statsOf(connection);
    assert.ok(rttMs < (performance.now() - start) / 4, `${rttMs} ms`);
    connection.close(1, "done");
    await peer.kill();
  });

  test("keep-alive carries an idle connection past its idle timeout", { skip }, async () => {
    const transport = await quicheTransport();
    const options = { idleTimeoutMs: 500, keepAliveMs: 100 };
    const listener = await echoServer(transport, ADDRESS, options);
    const connection = await dial(transport, listener.address, options);
    let ended = false;
    void connection.closed.then(() => (ended = true));
    const start = performance.now();
    await waitFor(() => ended || performance.now() - start > 1_500, { what: "1.5 s" });
    assert.equal(ended, false);
    await echoes(connection, 1);
    connection.close(1, "done");
    await listener.close();
  });

  test("a close has a code of QUIC and a reason that fits", { skip }, async () => {
    const transport = await quicheTransport();
    const accepted = Promise.withResolvers<Connection>();
    const listener = await echoServer(transport, ADDRESS, { onConnection: accepted.resolve });
    const connection = await dial(transport, listener.address);
    const server = await accepted.promise;
    for (const code of [0, -1, 1.5, 2 ** 30 + 1, NaN]) {
      assert.throws(() => connection.close(code, "wrong"), RangeError);
    }
    connection.close(2 ** 30, "€".repeat(100));
    assert.deepEqual(await server.closed, { code: 2 ** 30, reason: "€".repeat(85), by: "peer" });
    connection.close(7, "too late");
    assert.equal((await connection.closed).code, 2 ** 30);
    await listener.close();
  });

  test("pipes that are destroyed before they are used do not use the limit up", {
    skip,
  }, async () => {
    const transport = await quicheTransport();
    const listener = await echoServer(transport, ADDRESS, { maxPipes: 5 });
    const connection = await dial(transport, listener.address);
    for (let i = 0; i < 50; i++) {
      let pipe: Pipe | undefined;
      await waitFor(async () => {
        pipe = await connection.openPipe("bidirectional").catch(() => undefined);
        return pipe !== undefined;
      }, { what: `pipe ${i}`, deadlineMs: 5_000 });
      pipe?.destroy();
    }
    connection.close(1, "done");
    await listener.close();
  });

  test("a pipe that nobody listens to is held by flow control, and then delivers", {
    skip,
  }, async () => {
    const transport = await quicheTransport();
    const held = Promise.withResolvers<Pipe>();
    const listener = await echoServer(transport, ADDRESS, {
      onConnection(connection) {
        connection.onPipe = (pipe) => {
          if (pipe.kind === "unidirectional") held.resolve(pipe);
          else {
            pipe.onData = (chunk) => void pipe.write(chunk);
            pipe.onEnd = () => pipe.end();
          }
        };
      },
    });
    const connection = await dial(transport, listener.address);
    const pipe = await connection.openPipe("unidirectional");
    const bytes = seededRandom(5).bytes(8 << 20);
    let drained = true;
    const written = writeAll(pipe, bytes, 64 * 1024).then(() => (drained = true));
    drained = false;
    const silent = await held.promise;
    await echoes(connection, 200);
    assert.ok(statsOf(connection).bytesSent < 3 << 20, "more was sent than the window allows");
    assert.equal(drained, false);
    const received = collect(silent);
    await written;
    pipe.end();
    assert.deepEqual((await received).bytes, bytes);
    connection.close(1, "done");
    await listener.close();
  });

  test("a handler that throws does not stop the other connections of its port", {
    skip,
  }, async () => {
    const thrown: unknown[] = [];
    const clock = {
      ...realClock,
      nextTurn: (fn: () => void) =>
        realClock.nextTurn(() => {
          try {
            fn();
          } catch (error) {
            thrown.push(error);
          }
        }),
    };
    const transport = await quicheTransport();
    const listener = await echoServer(transport, ADDRESS, {
      clock,
      onConnection(connection) {
        connection.onPipe = (pipe) => {
          pipe.onData = (chunk) => {
            if (chunk[0] === 13) throw new Error("unlucky");
            pipe.write(chunk);
          };
        };
      },
    });
    const unlucky = await dial(transport, listener.address);
    const lucky = await dial(transport, listener.address);
    const pipe = await unlucky.openPipe("bidirectional");
    const heard = new Promise((resolve) => (pipe.onData = resolve));
    pipe.write(new Uint8Array([12]));
    await heard;
    pipe.write(new Uint8Array([13]));
    await waitFor(() => thrown.length > 0, { what: "the handler's error" });
    assert.match(String(thrown[0]), /unlucky/);
    await echoes(lucky, 5);
    lucky.close(1, "done");
    unlucky.close(1, "done");
    await listener.close();
  });

  test("nobody can be dialled at port 0", { skip }, async () => {
    await assert.rejects(
      dial(await quicheTransport(), ADDRESS),
      (error: { reason?: string }) => error.reason === "bad_address",
    );
  });

  for (const name of RUNTIMES) {
    test(`a program on ${name} that has closed its connection ends by itself`, {
      skip: skip || (runtime === "bun" && "Node has asked"),
    }, async () => {
      const listener = await echoServer(await quicheTransport(), ADDRESS);
      const program = startProgram(name, "test/adapters/quiche_dialler_program.ts", [
        listener.address,
      ]);
      assert.equal(await program.exited, 0, program.output.join("\n"));
      assert.deepEqual(wordsOf(program), ["echo hello", "closed local"]);
      await listener.close();
    });
  }
});
