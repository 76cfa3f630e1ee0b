import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { platform } from "node:process";
import { tuneBunSocket } from "../../adapters/quic/bun_socket.ts";
import { connectionOptions, dial, echoServer, quicUnderTest } from "../conformance/world.ts";
import { runtime, test } from "../harness.ts";

const skip = (runtime !== "bun" || platform !== "linux") && "sockets of Bun on Linux";

/** Whether ICMP errors are reported on each UDP socket of this process that is bound to IPv4. */
async function reporting(): Promise<readonly number[]> {
  const ffi = await import("bun:ffi" as string);
  const { getsockopt } = ffi.dlopen("libc.so.6", {
    getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  }).symbols;
  const inodes = readFileSync("/proc/self/net/udp", "utf8").split("\n")
    .map((line) => `socket:[${line.trim().split(/\s+/)[9]}]`);
  const found: number[] = [];
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      if (!inodes.includes(readlinkSync(`/proc/self/fd/${fd}`))) continue;
    } catch {
      continue;
    }
    const value = new Int32Array(1);
    assert.equal(getsockopt(Number(fd), 0, 11, value, Int32Array.of(4)), 0);
    found.push(value[0] as number);
  }
  return found;
}

test("sockets that listen and sockets that dial report no ICMP errors", { skip }, async () => {
  const transport = await quicUnderTest();
  const listener = await echoServer(transport, "quic://127.0.0.1:0");
  const connection = await dial(transport, listener.address);
  assert.deepEqual(await reporting(), [0, 0]);
  connection.close(1, "done");
  await connection.closed;
  await listener.close();
});

test("a socket that is not found is told, once to each logger", { skip }, async () => {
  const said: string[] = [];
  const logger = {
    ...(await connectionOptions()).logger,
    log: (level: string, message: string) => void said.push(`${level} ${message}`),
  };
  await tuneBunSocket(1, logger);
  await tuneBunSocket(1, logger);
  assert.equal(said.length, 1);
  assert.match(said[0] ?? "", /^warn .*port 1 .*shows no socket of this process/);
});
