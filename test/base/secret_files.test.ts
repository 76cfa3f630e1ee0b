import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import { memoryFiles } from "../../src/base/secret_files.ts";
import { test } from "../harness.ts";

test("memory files forget nothing while the process lives, and say that they will", async () => {
  const files = memoryFiles();
  assert.equal(files.durable, false);
  assert.equal(await files.read("keys/node.key"), undefined);
  const bytes = utf8("secret");
  await files.write("keys/node.key", bytes);
  bytes.fill(0);
  const read = await files.read("keys/node.key");
  assert.deepEqual(read, utf8("secret"));
  read?.fill(0);
  assert.deepEqual(await files.read("keys/node.key"), utf8("secret"));
});

test("memory files list what lies directly in a folder", async () => {
  const files = memoryFiles();
  for (const path of ["trusted/a", "trusted/b", "trusted/deeper/c", "trustedd", "other/d"]) {
    await files.write(path, utf8(path));
  }
  await files.remove("trusted/b");
  await files.remove("trusted/never there");
  assert.deepEqual(await files.list("trusted"), ["a"]);
  assert.deepEqual(await files.list("nowhere"), []);
});
