import assert from "node:assert/strict";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { equalBytes, utf8 } from "../../src/base/bytes.ts";
import { ConfigError } from "../../src/base/errors.ts";
import { durableFiles } from "../../src/storage/files.ts";
import { afterEach, beforeEach, describe, test } from "../harness.ts";

const windows = process.platform === "win32" && "Windows has no modes";
const root = process.getuid?.() === 0;

let folder = "";
const modeOf = async (...path: string[]) => (await stat(join(folder, ...path))).mode & 0o777;

describe("durable files", () => {
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "barrel files, with spaces "));
  });
  afterEach(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  test("come back after they were written, also to another reader", async () => {
    const data = join(folder, "data of node 1");
    const files = durableFiles(data);
    assert.equal(files.durable, true);
    assert.equal(await files.read("keys/node.key"), undefined);
    await files.write("keys/node.key", Uint8Array.of(0, 1, 255));
    assert.deepEqual(await files.read("keys/node.key"), Uint8Array.of(0, 1, 255));
    assert.deepEqual(await durableFiles(data).read("keys/node.key"), Uint8Array.of(0, 1, 255));
    await files.write("keys/node.key", utf8("shorter and longer"));
    assert.deepEqual(await files.read("keys/node.key"), utf8("shorter and longer"));
    await files.write("keys/node.key", new Uint8Array(0));
    assert.deepEqual(await files.read("keys/node.key"), new Uint8Array(0));
  });

  test("are read as bytes of their own, however small", async () => {
    const files = durableFiles(folder);
    await files.write("small", utf8("x"));
    const bytes = await files.read("small");
    assert.equal(bytes?.constructor, Uint8Array);
    assert.equal(bytes?.buffer.byteLength, 1);
  });

  test("are private, and so are the folders made for them", { skip: windows }, async () => {
    const before = process.umask(0);
    try {
      await durableFiles(join(folder, "data")).write("keys/deep/node.key", utf8("secret"));
    } finally {
      process.umask(before);
    }
    assert.equal(await modeOf("data"), 0o700);
    assert.equal(await modeOf("data", "keys"), 0o700);
    assert.equal(await modeOf("data", "keys", "deep"), 0o700);
    assert.equal(await modeOf("data", "keys", "deep", "node.key"), 0o600);
  });

  test("become private when an open one is replaced", { skip: windows }, async () => {
    await writeFile(join(folder, "node.key"), "old");
    await chmod(join(folder, "node.key"), 0o644);
    // What a crash left behind, with a mode that everybody can read.
    await writeFile(join(folder, "node.key.0.tmp"), "left behind");
    await chmod(join(folder, "node.key.0.tmp"), 0o644);
    await durableFiles(folder).write("node.key", utf8("new"));
    assert.equal(await modeOf("node.key"), 0o600);
    assert.equal(await readFile(join(folder, "node.key"), "utf8"), "new");
  });

  test("do not follow a link that stands where the new file goes", { skip: windows }, async () => {
    await writeFile(join(folder, "elsewhere"), "untouched");
    await symlink(join(folder, "elsewhere"), join(folder, "node.key"));
    await durableFiles(folder).write("node.key", utf8("new"));
    assert.equal(await readFile(join(folder, "elsewhere"), "utf8"), "untouched");
    assert.equal(await readFile(join(folder, "node.key"), "utf8"), "new");
  });

  test("are whole whoever reads while they are replaced", async () => {
    const files = durableFiles(folder);
    const versions = ["a", "b"].map((letter) => utf8(letter.repeat(100_000)));
    await files.write("epoch", versions[0] as Uint8Array);
    let writing = true;
    const reader = async () => {
      while (writing) {
        const bytes = await files.read("epoch");
        assert.ok(bytes !== undefined && versions.some((version) => equalBytes(version, bytes)));
      }
    };
    const reading = reader();
    for (let i = 1; i <= 20; i++) await files.write("epoch", versions[i % 2] as Uint8Array);
    writing = false;
    await reading;
  });

  test("of one name written at once end as one of them, with nothing beside", async () => {
    const files = durableFiles(folder);
    const texts = Array.from({ length: 10 }, (_, i) => `version ${i}`);
    await Promise.all(texts.map((text) => files.write("keys/epoch", utf8(text))));
    const text = await readFile(join(folder, "keys", "epoch"), "utf8");
    assert.ok(texts.includes(text), text);
    assert.deepEqual(await readdir(join(folder, "keys")), ["epoch"]);
  });

  test("are listed without what a crash left behind", async () => {
    const files = durableFiles(folder);
    assert.deepEqual(await files.list("trusted"), []);
    await files.write("trusted/a@h.pub", utf8("a"));
    await files.write("trusted/b@h.pub", utf8("b"));
    await writeFile(join(folder, "trusted", "c@h.pub.7.tmp"), "half");
    assert.deepEqual((await files.list("trusted")).sort(), ["a@h.pub", "b@h.pub"]);
    await files.remove("trusted/a@h.pub");
    await files.remove("trusted/a@h.pub");
    assert.deepEqual(await files.list("trusted"), ["b@h.pub"]);
  });

  test("say which path is the trouble when the folder cannot be", async () => {
    await writeFile(join(folder, "in the way"), "a file");
    const files = durableFiles(join(folder, "in the way"));
    for (
      const [verb, work] of [
        ["write", () => files.write("keys/node.key", utf8("secret"))],
        ["read", () => files.read("keys/node.key")],
        ["list", () => files.list("keys")],
        ["remove", () => files.remove("keys/node.key")],
      ] as const
    ) {
      await assert.rejects(work(), (error: Error) => {
        assert.ok(error instanceof ConfigError);
        assert.equal(error.path, "dataDir");
        assert.match(error.message, new RegExp(`cannot ${verb} .*in the way`));
        return true;
      });
    }
  });

  test("leave no half-written secret when the write fails", async () => {
    // A folder that is not empty stands where the file should go.
    await mkdir(join(folder, "node.key", "full"), { recursive: true });
    await assert.rejects(durableFiles(folder).write("node.key", utf8("secret")), ConfigError);
    assert.deepEqual(await readdir(folder), ["node.key"]);
  });

  test("cannot be written into a folder of somebody else", {
    skip: windows || (root && "root may write everywhere"),
  }, async () => {
    await chmod(folder, 0o500);
    await assert.rejects(durableFiles(folder).write("node.key", utf8("secret")), /cannot write/);
  });
});
