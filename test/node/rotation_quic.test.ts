import assert from "node:assert/strict";
import { encodeHex } from "@std/encoding/hex";
import { sha256 } from "@noble/hashes/sha2.js";
import { runtime, test, waitFor } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";
import { startRotating } from "./rotation_node.ts";

test(`nodes on ${RUNTIMES.join(", ")} keep calling each other while each rotates its key twice`, {
  timeoutMs: 90_000,
}, async () => {
  const others = RUNTIMES.filter((name) => name !== runtime);
  const nameOf = (name: string) => `${name}@127.0.0.1`;
  const names = others.map(nameOf);
  const main = await startRotating(
    { name: nameOf(runtime), listen: ["quic://127.0.0.1:0"] },
    names,
  );
  const programs = others.map((name) =>
    startProgram(name, "test/node/rotation_program.ts", [
      nameOf(name),
      main.node.addresses[0] as string,
      ...RUNTIMES.filter((other) => other !== name).map(nameOf),
    ])
  );
  const least = () => Math.min(...names.map((name) => main.answered.get(name) ?? 0));
  try {
    await waitFor(() => least() >= 5, { what: "the first calls" });
    for (const program of programs) await program.line(/answered [1-9]/);
    for (let round = 1; round <= 2; round++) {
      await main.rotate();
      for (const [index, program] of programs.entries()) {
        program.say("rotate");
        const pattern = new RegExp(`^rotated ${round} ([0-9a-f]+)$`);
        const [, print] = await program.line(pattern);
        await waitFor(() => {
          const pin = main.node.trust.lookup(names[index] as string);
          return pin !== undefined && encodeHex(sha256(pin)) === print;
        }, { what: `the new key of ${names[index]}` });
        const before = least();
        await waitFor(() => least() > before + 3, { what: "calls go on" });
      }
    }
    assert.deepEqual(main.faults, []);
    for (const program of programs) {
      const [, faults] = await program.line(/^rotations 2 answered \d+ faults (.*)$/);
      assert.equal(faults, "");
    }
  } finally {
    for (const program of programs) program.say("end");
    await main.close();
    await Promise.all(programs.map((program) => program.kill()));
  }
});
