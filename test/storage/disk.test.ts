/** A disk that fills up while the node runs: a small file system of our own, where we may make one. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runtime, test } from "../harness.ts";
import { startProgram } from "../processes.ts";

const MOUNT = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"';
const inside = (folder: string) => ["unshare", "-Urm", "sh", "-c", MOUNT, folder];

function mayMount(): boolean {
  try {
    const [command, ...args] = [...inside(tmpdir()), "true"];
    execFileSync(command, args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

const skip = !mayMount() && "this user may not mount";

test("a disk that fills up costs the writes that it refuses, and nothing else", {
  skip,
  timeoutMs: 60_000,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), "barrel-disk-"));
  const before = inside(folder);
  const program = startProgram(runtime, "test/storage/disk_program.ts", [folder], { before });
  const answer = async (command: string) => {
    program.say(command);
    const [, answer = ""] = await program.line(new RegExp(`^${command} (.*)$`));
    return answer.trim();
  };
  try {
    await program.line(/^ready$/);
    assert.equal(await answer("set one 1"), "done");
    await answer("fill");
    const big = "x".repeat(3_000);
    const answers: string[] = [];
    for (let i = 0; i < 20; i++) answers.push(await answer(`set two ${i}${big}`));
    assert.equal(answers.at(-1), "refused full");
    const held = answers.lastIndexOf("done");
    const two = held === -1 ? {} : { two: `${held}${big}` };
    assert.equal(await answer("other three 3"), "done", "what others write is shown");
    assert.equal(await answer("set four 4"), "refused full");
    assert.deepEqual(JSON.parse((await answer("entries")).slice(5)), {
      one: "1",
      three: "3",
      ...two,
    });
    assert.equal(await answer("names"), "done true", "the node lives");
    await answer("free");
    assert.equal(await answer("set five 5"), "done");
    await answer("restart");
    program.say("entries ");
    const [, entries = ""] = await program.line(/^entries  done (.*)$/);
    assert.deepEqual(JSON.parse(entries), { five: "5", one: "1", three: "3", ...two });
    const errors = program.output.filter((line) => line.startsWith("error "));
    assert.equal(errors.length, 1, errors.join("\n"));
    await answer("fill");
    program.say("end");
    assert.equal(await program.exited, 0, program.output.join("\n"));
  } finally {
    await program.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  }
});

test("a disk that is full when a map is first kept there is asked again by the next attempt", {
  skip,
  timeoutMs: 60_000,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), "barrel-disk-"));
  const before = inside(folder);
  const program = startProgram(runtime, "test/storage/disk_program.ts", [folder, "full"], {
    before,
  });
  try {
    await program.line(/^filled$/);
    await program.line(/^ConfigError: dataDir: cannot open .* full/);
    await program.line(/^freed$/);
    await program.line(/^ready$/);
    program.say("set one 1");
    await program.line(/^set one 1 done/);
    program.say("end");
    assert.equal(await program.exited, 0, program.output.join("\n"));
  } finally {
    await program.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  }
});
