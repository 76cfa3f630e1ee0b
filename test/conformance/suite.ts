import assert from "node:assert/strict";
import type { Connection, Transport } from "../../src/transport/contract.ts";
import process from "node:process";
import { test } from "../harness.ts";
import { checks } from "./checks.ts";
import { watchProcesses } from "./process_watch.ts";
import { collect, connectionOptions, dial, echoServer, framedServer, writeAll } from "./world.ts";

/** What the suite needs to know of an adapter. */
export interface Subject {
  readonly name: string;
  create(): Transport | Promise<Transport>;
  /** Addresses to listen on: one per address family. */
  readonly addresses: readonly string[];
  /** An address that nobody serves. */
  readonly deadAddress: string;
  /** Whether the transport shows the server's certificate to a client that did not pin it. */
  readonly showsCertificate: boolean;
  /** Whether a port is free once its listener is closed: on Deno it is when garbage was collected. */
  readonly freesPorts: boolean;
}

/** Declares the tests that every adapter passes. */
export function conformance(subject: Subject): void {
  const { name } = subject;
  const address = subject.addresses[0] as string;

  const withEcho = async (
    body: (connection: Connection, transport: Transport) => Promise<void>,
    listenOn = address,
  ) => {
    const transport = await subject.create();
    const listener = await echoServer(transport, listenOn);
    const connection = await dial(transport, listener.address);
    try {
      await body(connection, transport);
    } finally {
      connection.close(1, "done");
      await connection.closed;
      await listener.close();
    }
  };

  for (const listenOn of subject.addresses) {
    test(`${name}: a pipe on ${listenOn} carries bytes both ways and ends cleanly`, () =>
      withEcho(async (connection) => {
        const pipe = await connection.openPipe("bidirectional");
        const answer = collect(pipe);
        pipe.write(new TextEncoder().encode("hello"));
        pipe.end();
        const { bytes, clean } = await answer;
        assert.equal(new TextDecoder().decode(bytes), "hello");
        assert.equal(clean, true);
      }, listenOn));
  }

  test(`${name}: our half may end while the peer goes on`, () =>
    withEcho(async (connection) => {
      const pipe = await connection.openPipe("bidirectional");
      const answer = collect(pipe);
      const bytes = new Uint8Array(300_000).map((_, i) => i % 251);
      await writeAll(pipe, bytes, 10_000);
      pipe.end();
      assert.deepEqual((await answer).bytes, bytes);
    }));

  test(`${name}: eight megabytes arrive whole and in order, and write says when to wait`, () =>
    withEcho(async (connection) => {
      const pipe = await connection.openPipe("bidirectional");
      const answer = collect(pipe);
      const bytes = new Uint8Array(8 << 20);
      for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 12)) & 0xff;
      await writeAll(pipe, bytes, 60_000);
      pipe.end();
      const got = (await answer).bytes;
      assert.equal(got.length, bytes.length);
      assert.equal(got.findIndex((byte, i) => byte !== bytes[i]), -1);
    }));

  test(`${name}: a hundred pipes at once do not mix`, () =>
    withEcho(async (connection) => {
      const answers = await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          const pipe = await connection.openPipe("bidirectional");
          const answer = collect(pipe);
          pipe.write(new TextEncoder().encode(`pipe ${i}`));
          pipe.end();
          return new TextDecoder().decode((await answer).bytes);
        }),
      );
      assert.deepEqual(answers, Array.from({ length: 100 }, (_, i) => `pipe ${i}`));
    }));

  test(`${name}: the peer sees the code and the reason of a close`, () =>
    withEcho(async (connection) => {
      const pipe = await connection.openPipe("unidirectional");
      pipe.write(new TextEncoder().encode("close 4711 enough said"));
      pipe.end();
      assert.deepEqual(await connection.closed, { code: 4711, reason: "enough said", by: "peer" });
    }));

  test(`${name}: a server sees the client's close`, async () => {
    const transport = await subject.create();
    const accepted = Promise.withResolvers<Connection>();
    const listener = await echoServer(transport, address, { onConnection: accepted.resolve });
    const connection = await dial(transport, listener.address);
    const server = await accepted.promise;
    // Something must have been said before, or the client may close before the server knows it.
    server.onPipe = () => connection.close(99, "bye");
    const pipe = await connection.openPipe("unidirectional");
    pipe.write(new Uint8Array(1));
    assert.deepEqual(await server.closed, { code: 99, reason: "bye", by: "peer" });
    assert.equal((await connection.closed).by, "local");
    await listener.close();
  });

  test(`${name}: both ends know the same channel binding`, async () => {
    const transport = await subject.create();
    const accepted = Promise.withResolvers<Connection>();
    const identity = (await connectionOptions()).identity;
    const listener = await echoServer(transport, address, {
      identity,
      onConnection: accepted.resolve,
    });
    const pinned = await dial(transport, listener.address, {
      expectedCertificate: identity.certificate,
    });
    const server = await accepted.promise;
    assert.equal(server.channelBinding?.length, 32);
    assert.deepEqual(pinned.channelBinding, server.channelBinding);
    const unpinned = await dial(transport, listener.address);
    assert.deepEqual(
      unpinned.channelBinding,
      subject.showsCertificate ? server.channelBinding : undefined,
    );
    pinned.close(1, "done");
    unpinned.close(1, "done");
    await listener.close();
  });

  test(`${name}: a server without the expected certificate is refused`, async () => {
    const transport = await subject.create();
    const listener = await echoServer(transport, address);
    const other = (await connectionOptions()).identity.certificate;
    await assert.rejects(
      dial(transport, listener.address, { expectedCertificate: other }),
      (error: { reason?: string }) => error.reason === "tls",
    );
    await listener.close();
  });

  test(`${name}: a dial leaves from the listener's port`, async () => {
    const transport = await subject.create();
    const accepted = Promise.withResolvers<Connection>();
    const target = await echoServer(transport, address, { onConnection: accepted.resolve });
    const own = await echoServer(transport, address);
    const connection = await dial(transport, target.address, { via: own });
    assert.equal((await accepted.promise).remoteAddress, own.address);
    connection.close(1, "done");
    await connection.closed;
    await own.close();
    await target.close();
  });

  test(`${name}: an address in use is named`, async () => {
    const transport = await subject.create();
    const listener = await echoServer(transport, address);
    await assert.rejects(
      echoServer(transport, listener.address),
      (error: { reason?: string; message: string }) =>
        error.reason === "address_in_use" && error.message.includes(listener.address),
    );
    await listener.close();
  });

  test(`${name}: a port that was just closed can be listened on again, and hears its peers`, {
    skip: !subject.freesPorts && "Deno frees a port when it collects garbage",
  }, async () => {
    const transport = await subject.create();
    let listener = await echoServer(transport, address);
    for (let i = 0; i < 5; i++) {
      const { address: same } = listener;
      await listener.close();
      listener = await echoServer(transport, same);
      assert.equal(listener.address, same);
      const connection = await dial(transport, same, { timeoutMs: 5_000 });
      const pipe = await connection.openPipe("bidirectional");
      const answer = collect(pipe);
      pipe.write(Uint8Array.of(i));
      pipe.end();
      assert.deepEqual([...(await answer).bytes], [i]);
      connection.close(1, "done");
      await connection.closed;
    }
    await listener.close();
  });

  test(`${name}: a dial to nobody fails within its deadline`, async () => {
    const transport = await subject.create();
    await assert.rejects(
      dial(transport, subject.deadAddress, { timeoutMs: 700 }),
      (error: { reason?: string }) =>
        ["timeout", "refused", "unreachable"].includes(error.reason ?? ""),
    );
  });

  test(`${name}: an aborted dial fails at once`, async () => {
    const transport = await subject.create();
    const abort = new AbortController();
    const dialled = dial(transport, subject.deadAddress, {
      timeoutMs: 5_000,
      signal: abort.signal,
    });
    abort.abort();
    await assert.rejects(dialled, (error: { reason?: string }) => error.reason === "aborted");
  });

  test(`${name}: an address that is none is refused by name`, async () => {
    const transport = await subject.create();
    for (const wrong of [`${transport.scheme}://`, "http://x:1", "nonsense"]) {
      await assert.rejects(
        dial(transport, wrong),
        (error: { reason?: string }) => error.reason === "bad_address",
      );
    }
  });

  test(`${name}: an idle connection without keep-alive ends on both sides`, async () => {
    const transport = await subject.create();
    const accepted = Promise.withResolvers<Connection>();
    const listener = await echoServer(transport, address, {
      idleTimeoutMs: 1_000,
      keepAliveMs: 0,
      onConnection: accepted.resolve,
    });
    const connection = await dial(transport, listener.address, {
      idleTimeoutMs: 1_000,
      keepAliveMs: 0,
    });
    const server = await accepted.promise;
    assert.equal((await connection.closed).by, "lost");
    assert.equal((await server.closed).by, "lost");
    await listener.close();
  });

  test(`${name}: closing the listener ends its connections and their pipes`, async () => {
    const transport = await subject.create();
    const listener = await echoServer(transport, address);
    const connection = await dial(transport, listener.address, { idleTimeoutMs: 2_000 });
    const pipe = await connection.openPipe("bidirectional");
    const answer = collect(pipe);
    pipe.write(new Uint8Array(10));
    await listener.close();
    await connection.closed;
    await answer;
    assert.equal(pipe.write(new Uint8Array(1)), false);
    await assert.rejects(connection.openPipe("bidirectional"));
  });

  for (const { run, timeoutMs, title } of checks) {
    test(`${name}: ${title}`, { timeoutMs: timeoutMs ?? 30_000 }, async () => {
      const transport = await subject.create();
      const maxPipes = 20;
      const echo = await echoServer(transport, address, { maxPipes });
      const framed = await framedServer(transport, address, { maxPipes });
      const own = await echoServer(transport, address);
      try {
        await run({
          echo: (overrides) => dial(transport, echo.address, overrides),
          framed: (overrides) => dial(transport, framed.address, overrides),
          own,
          maxPipes,
          connections: 20,
          cycles: 20,
          offeredBytes: 8 << 20,
          watch: watchProcesses([process.pid]),
        });
      } finally {
        for (const listener of [echo, framed, own]) await listener.close();
      }
    });
  }
}
