import assert from "node:assert/strict";
import { ConfigError, ConflictError } from "../../src/base/errors.ts";
import { nobleCrypto } from "../../src/base/noble_crypto.ts";
import { seededRandom } from "../../src/base/random.ts";
import { memoryFiles } from "../../src/base/secret_files.ts";
import type { SecretFiles } from "../../src/base/secret_files.ts";
import { openTrustStore } from "../../src/identity/trust.ts";
import { describe, test } from "../harness.ts";

const crypto = nobleCrypto(seededRandom(1));
const newKey = async () => (await crypto.generateKeyPair()).publicKey;
const KEY = await newKey();
const OTHER = await newKey();
const NAME = "node1@127.0.0.1";

describe("trust", () => {
  test("takes a stranger at first contact with tofu, and not when strict", async () => {
    const tofu = await openTrustStore(memoryFiles(), "tofu");
    const strict = await openTrustStore(memoryFiles(), "strict");
    assert.equal(tofu.check(NAME, KEY), "first_contact");
    assert.equal(strict.check(NAME, KEY), "unknown");
    // Looking does not pin.
    assert.equal(tofu.check(NAME, OTHER), "first_contact");
    assert.equal(tofu.lookup(NAME), undefined);
  });

  test("knows a pinned key and refuses another one, in both modes", async () => {
    for (const mode of ["tofu", "strict"] as const) {
      const store = await openTrustStore(memoryFiles(), mode);
      assert.equal(store.mode, mode);
      await store.pin(NAME, KEY);
      assert.equal(store.check(NAME, KEY), "pinned");
      assert.equal(store.check(NAME, OTHER), "mismatch");
      assert.deepEqual(store.lookup(NAME), KEY);
    }
  });

  test("never overwrites a pin, however it was made", async () => {
    for (const durable of [true, false]) {
      const files = memoryFiles();
      const store = await openTrustStore(files, "tofu");
      await store.pin(NAME, KEY, { durable });
      for (const again of [true, false]) {
        await assert.rejects(store.pin(NAME, OTHER, { durable: again }), (error: Error) => {
          assert.ok(error instanceof ConflictError);
          assert.match(error.message, /node1@127\.0\.0\.1; unpin it first/);
          return true;
        });
      }
      assert.deepEqual(store.lookup(NAME), KEY);
      assert.deepEqual(
        await files.read(`trusted/${NAME}.pub`),
        durable ? KEY : undefined,
      );
    }
  });

  test("pins one of two keys that come at once", async () => {
    const files = memoryFiles();
    const store = await openTrustStore(files, "tofu");
    const results = await Promise.allSettled([store.pin(NAME, KEY), store.pin(NAME, OTHER)]);
    assert.deepEqual(results.map(({ status }) => status), ["fulfilled", "rejected"]);
    assert.deepEqual(store.lookup(NAME), KEY);
    assert.deepEqual(await files.read(`trusted/${NAME}.pub`), KEY);
  });

  test("keeps raw keys in files and reads them at the next start", async () => {
    const files = memoryFiles();
    const names = ["b@host", "A@host", "a@host", "a@[::1]", "a@[FE80::1]", "x_y.z-1@example.org"];
    const keys = new Map<string, Uint8Array>();
    const store = await openTrustStore(files, "strict");
    for (const name of names) {
      const key = await newKey();
      keys.set(name, key);
      await store.pin(name, key);
    }
    assert.ok((await files.list("trusted")).includes("a@%5B%3A%3A1%5D.pub"));
    assert.deepEqual(
      await files.read("trusted/x_y.z-1@example.org.pub"),
      keys.get("x_y.z-1@example.org"),
    );
    const reopened = await openTrustStore(files, "strict");
    for (const name of names) {
      assert.equal(reopened.check(name, keys.get(name) as Uint8Array), "pinned");
    }
    assert.deepEqual(reopened.list(), store.list());
    assert.deepEqual(reopened.list().map(({ node }) => node), [...names].sort());
  });

  test("keeps names apart on file systems that take A for a", async () => {
    const files = memoryFiles();
    const store = await openTrustStore(files, "tofu");
    for (const name of ["seed@host", "Seed@host", "SEED@host", "seed@Host"]) {
      await store.pin(name, await newKey());
    }
    const folded = new Set((await files.list("trusted")).map((file) => file.toLowerCase()));
    assert.equal(folded.size, 4);
  });

  test("holds what it was given, not the caller's array", async () => {
    const store = await openTrustStore(memoryFiles(), "tofu");
    const key = KEY.slice();
    await store.pin(NAME, key);
    key.fill(1);
    assert.equal(store.check(NAME, KEY), "pinned");
  });

  test("unpins, and the name is a stranger again after the next start too", async () => {
    const files = memoryFiles();
    const store = await openTrustStore(files, "strict");
    await store.pin(NAME, KEY);
    await store.unpin(NAME);
    await store.unpin(NAME);
    assert.equal(store.check(NAME, KEY), "unknown");
    assert.deepEqual((await openTrustStore(files, "strict")).list(), []);
    await store.pin(NAME, OTHER);
    assert.equal(store.check(NAME, OTHER), "pinned");
  });

  test("forgets the key of a node without a disk, and of no other", async () => {
    const files = memoryFiles();
    const store = await openTrustStore(files, "tofu");
    await store.pin("edge@host", KEY, { durable: false });
    await store.pin(NAME, KEY);
    assert.deepEqual(store.list().map(({ node, durable }) => [node, durable]), [
      ["edge@host", false],
      [NAME, true],
    ]);
    assert.equal(store.check("edge@host", OTHER), "mismatch");
    store.forgetEphemeral("edge@host");
    store.forgetEphemeral(NAME);
    store.forgetEphemeral("nobody@host");
    assert.equal(store.check("edge@host", OTHER), "first_contact");
    assert.equal(store.check(NAME, KEY), "pinned");
    assert.deepEqual(await files.list("trusted"), [`${NAME}.pub`]);
  });

  test("keeps for good what was in memory once it is pinned for good", async () => {
    const files = memoryFiles();
    const store = await openTrustStore(files, "tofu");
    await store.pin(NAME, KEY, { durable: false });
    await store.pin(NAME, KEY);
    await store.pin(NAME, KEY, { durable: false });
    store.forgetEphemeral(NAME);
    assert.equal(store.check(NAME, KEY), "pinned");
    assert.deepEqual(await files.read(`trusted/${NAME}.pub`), KEY);
  });

  test("still refuses another key when the pin could not be written, and writes it later", async () => {
    const files = memoryFiles();
    let isFull = true;
    const disk: SecretFiles = {
      ...files,
      write: (path, bytes) =>
        isFull ? Promise.reject(new Error("disk full")) : files.write(path, bytes),
    };
    const store = await openTrustStore(disk, "tofu");
    await assert.rejects(store.pin(NAME, KEY), /disk full/);
    assert.equal(store.check(NAME, OTHER), "mismatch");
    isFull = false;
    await store.pin(NAME, KEY);
    assert.deepEqual(await files.read(`trusted/${NAME}.pub`), KEY);
  });

  test("ends as the last call said, whatever crosses on the way to the disk", async () => {
    const files = memoryFiles();
    const held: (() => void)[] = [];
    const slow: SecretFiles = {
      ...files,
      write: async (path, bytes) => {
        await new Promise<void>((resolve) => held.push(resolve));
        await files.write(path, bytes);
      },
    };
    const store = await openTrustStore(slow, "tofu");
    const pinned = store.pin(NAME, KEY);
    const unpinned = store.unpin(NAME);
    while (held.length === 0) await Promise.resolve();
    held.pop()?.();
    await Promise.all([pinned, unpinned]);
    assert.equal(store.check(NAME, KEY), "first_contact");
    assert.deepEqual(await files.list("trusted"), []);
  });

  test("pins no bytes that are no key, and no name that is none", async () => {
    const files = memoryFiles();
    const store = await openTrustStore(files, "tofu");
    for (const bad of [KEY.slice(1), new Uint8Array(32), new Uint8Array(32).fill(0xff)]) {
      await assert.rejects(store.pin(NAME, bad), ConfigError);
    }
    for (const name of ["", "node1", "../../etc/passwd", "a/b@host", "a@host/../x"]) {
      await assert.rejects(store.pin(name, KEY), { reason: "bad_node_name" });
    }
    assert.deepEqual(await files.list("trusted"), []);
    assert.deepEqual(store.list(), []);
  });

  test("refuses to start over damaged pins, and names the file", async () => {
    const damaged: [file: string, bytes: Uint8Array][] = [
      [`${NAME}.pub`, KEY.slice(1)],
      [`${NAME}.pub`, new Uint8Array(32)],
      ["no-name.pub", KEY],
      ["%zz@host.pub", KEY],
      // A second spelling of a name that has a file of its own.
      ["%61@host.pub", KEY],
    ];
    for (const [file, bytes] of damaged) {
      const files = memoryFiles();
      await files.write(`trusted/${file}`, bytes);
      await assert.rejects(openTrustStore(files, "tofu"), (error: Error) => {
        assert.ok(error instanceof ConfigError);
        assert.ok(error.message.includes(`trusted/${file}`), error.message);
        return true;
      });
    }
  });

  test("leaves files alone that are no pins", async () => {
    const files = memoryFiles();
    await files.write("trusted/README", KEY);
    assert.deepEqual((await openTrustStore(files, "tofu")).list(), []);
  });
});
