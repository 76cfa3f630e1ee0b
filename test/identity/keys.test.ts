import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import type { Clock } from "../../src/base/clock.ts";
import { ConfigError } from "../../src/base/errors.ts";
import { nobleCrypto } from "../../src/base/noble_crypto.ts";
import { seededRandom } from "../../src/base/random.ts";
import { realClock } from "../../src/base/real.ts";
import { memoryFiles } from "../../src/base/secret_files.ts";
import type { SecretFiles } from "../../src/base/secret_files.ts";
import { fingerprint, loadKeys, nextEpoch } from "../../src/identity/keys.ts";
import { describe, test } from "../harness.ts";

const crypto = nobleCrypto(seededRandom(1));

async function filesWith(content: Record<string, Uint8Array>): Promise<SecretFiles> {
  const files = memoryFiles();
  for (const [path, bytes] of Object.entries(content)) await files.write(path, bytes);
  return files;
}

function refusesToStart(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ConfigError);
    assert.equal(error.path, "dataDir");
    assert.match(error.message, pattern);
    assert.match(error.message, /restore .* or remove/);
    return true;
  };
}

describe("a node's keys", () => {
  test("are made at the first start and the same at the second", async () => {
    const files = memoryFiles();
    const first = await loadKeys(files, crypto);
    assert.deepEqual(await files.read("keys/node.key"), first.secretKey);
    assert.deepEqual(await files.read("keys/node.pub"), first.publicKey);
    assert.deepEqual(await loadKeys(files, crypto), first);
  });

  test("survive a crash between the two files of the first start", async () => {
    const files = memoryFiles();
    const { secretKey, publicKey } = await crypto.generateKeyPair();
    await files.write("keys/node.key", secretKey);
    assert.deepEqual(await loadKeys(files, crypto), { secretKey, publicKey });
    assert.deepEqual(await files.read("keys/node.pub"), publicKey);
  });

  test("that do not belong together refuse to start, and nothing is written", async () => {
    const one = await crypto.generateKeyPair();
    const other = await crypto.generateKeyPair();
    const files = await filesWith({
      "keys/node.key": one.secretKey,
      "keys/node.pub": other.publicKey,
    });
    await assert.rejects(
      loadKeys(files, crypto),
      refusesToStart(/node\.pub is not the public key of .*node\.key/),
    );
    assert.deepEqual(await files.read("keys/node.key"), one.secretKey);
    assert.deepEqual(await files.read("keys/node.pub"), other.publicKey);
  });

  test("that are damaged refuse to start rather than make a new identity", async () => {
    const { secretKey, publicKey } = await crypto.generateKeyPair();
    for (const length of [0, 31, 33]) {
      const files = await filesWith({ "keys/node.key": new Uint8Array(length) });
      await assert.rejects(
        loadKeys(files, crypto),
        refusesToStart(new RegExp(`has ${length} bytes instead of 32`)),
      );
    }
    await assert.rejects(
      loadKeys(await filesWith({ "keys/node.pub": publicKey }), crypto),
      refusesToStart(/node\.key is missing/),
    );
    await assert.rejects(
      loadKeys(
        await filesWith({ "keys/node.key": secretKey, "keys/node.pub": publicKey.slice(1) }),
        crypto,
      ),
      refusesToStart(/node\.pub is not/),
    );
  });

  test("have the SHA-256 of the public key as fingerprint", () => {
    assert.equal(
      fingerprint(utf8("abc"), crypto),
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
  });
});

describe("a node's epoch", () => {
  const clockAt = (wall: number): Clock => ({ ...realClock, wall: () => wall });

  test("is the wall's time at the first start, in whole milliseconds", async () => {
    assert.equal(await nextEpoch(memoryFiles(), clockAt(1_700_000_000_000.7)), 1_700_000_000_000);
  });

  test("grows with each start, also when the clock stands still or goes back", async () => {
    const files = memoryFiles();
    const seen = [];
    for (const wall of [1_000, 1_000, 500, -3, 1_001, 5_000, 4_000]) {
      seen.push(await nextEpoch(files, clockAt(wall)));
    }
    assert.deepEqual(seen, [1_000, 1_001, 1_002, 1_003, 1_004, 5_000, 5_001]);
  });

  test("is on the disk before the node lives it", async () => {
    const files = memoryFiles();
    const failing: SecretFiles = { ...files, write: () => Promise.reject(new Error("disk full")) };
    await assert.rejects(nextEpoch(failing, clockAt(1)), /disk full/);
  });

  test("is never 0, which stands for any life", async () => {
    assert.equal(await nextEpoch(memoryFiles(), clockAt(0)), 1);
  });

  test("refuses to start from a damaged file", async () => {
    const damaged = [
      utf8(""),
      utf8("abc"),
      utf8("-5"),
      utf8("1e3"),
      utf8("12\n"),
      utf8("9007199254740991"),
      utf8("9".repeat(400)),
      utf8(`${"0".repeat(20)}x`),
      Uint8Array.of(0xff, 0xfe, 0x31),
      new Uint8Array(100_000),
    ];
    for (const bytes of damaged) {
      const files = await filesWith({ "keys/epoch": bytes });
      await assert.rejects(nextEpoch(files, clockAt(1)), refusesToStart(/does not hold a number/));
    }
    const last = await filesWith({ "keys/epoch": utf8("9007199254740990") });
    assert.equal(await nextEpoch(last, clockAt(1)), Number.MAX_SAFE_INTEGER);
  });
});
