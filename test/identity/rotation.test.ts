import assert from "node:assert/strict";
import { equalBytes } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { ConfigError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { realCrypto } from "../../src/base/real.ts";
import { memoryFiles } from "../../src/base/secret_files.ts";
import type { SecretFiles } from "../../src/base/secret_files.ts";
import { createFollower } from "../../src/identity/follower.ts";
import { loadKeys } from "../../src/identity/keys.ts";
import { loadChain, rotateKeys } from "../../src/identity/rotation.ts";
import {
  extendChain,
  isChain,
  MAX_SUCCESSIONS,
  predecessors,
} from "../../src/identity/succession.ts";
import { openTrustStore } from "../../src/identity/trust.ts";
import type { TrustMode } from "../../src/identity/trust.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import { describe, test } from "../harness.ts";

const crypto = await realCrypto();
const NAME = "node@host";
const AT = Date.UTC(2026, 10, 23, 12, 30, 1, 5);
const none = new Uint8Array(0);

/** Keys that follow each other, and the chain that the last one shows. */
async function line(count: number, name = NAME) {
  const keys = [await crypto.generateKeyPair()];
  let chain: Bytes = none;
  for (let i = 0; i < count; i++) {
    const next = await crypto.generateKeyPair();
    chain = await extendChain(chain, name, keys.at(-1)!, next, AT + i, crypto);
    keys.push(next);
  }
  return { keys, chain, newest: keys.at(-1)! };
}

describe("a chain of successions", () => {
  test("names the keys before, newest first, as far back as it is kept", async () => {
    const { keys, chain, newest } = await line(MAX_SUCCESSIONS + 2);
    const found = await predecessors(chain, NAME, newest.publicKey, crypto);
    const expected = keys.slice(2, -1).map((pair) => pair.publicKey).reverse();
    assert.deepEqual(found, expected);
    assert.equal(found.length, MAX_SUCCESSIONS);
  });

  test("says nothing with a changed bit, under another name, or for another key", async () => {
    const { keys, chain, newest } = await line(1);
    const stranger = await crypto.generateKeyPair();
    for (let i = 0; i < chain.length; i += 7) {
      const changed = chain.slice();
      changed[i] = (changed[i] as number) ^ 1;
      assert.deepEqual(
        await predecessors(changed, NAME, newest.publicKey, crypto),
        [],
        `byte ${i}`,
      );
    }
    assert.deepEqual(await predecessors(chain, "other@host", newest.publicKey, crypto), []);
    assert.deepEqual(await predecessors(chain, NAME, stranger.publicKey, crypto), []);
    assert.deepEqual(await predecessors(chain, NAME, keys[0]!.publicKey, crypto), []);
    assert.equal((await predecessors(chain, NAME, newest.publicKey, crypto)).length, 1);
  });

  test("needs both keys: neither can be named without its own word", async () => {
    const [victim, thief] = [await crypto.generateKeyPair(), await crypto.generateKeyPair()];
    // The thief signs for both, whoever he says he is.
    const lying = { publicKey: victim.publicKey, secretKey: thief.secretKey };
    for (const [old, next] of [[lying, thief], [thief, lying]] as const) {
      const chain = await extendChain(none, NAME, old, next, AT, {
        ...crypto,
        sign: (message) => crypto.sign(message, thief),
      });
      assert.deepEqual(await predecessors(chain, NAME, next.publicKey, crypto), []);
    }
  });

  test("stops where a record is false, and goes round no circle", async () => {
    const { keys, chain, newest } = await line(3);
    const broken = chain.slice();
    broken[168 + 40] = (broken[168 + 40] as number) ^ 1;
    assert.deepEqual(await predecessors(broken, NAME, newest.publicKey, crypto), [
      keys[2]!.publicKey,
    ]);
    const [a, b] = [keys[0]!, keys[1]!];
    let circle = await extendChain(none, NAME, a, b, AT, crypto);
    circle = await extendChain(circle, NAME, b, a, AT, crypto);
    assert.deepEqual(await predecessors(circle, NAME, a.publicKey, crypto), [b.publicKey]);
  });

  test("is refused for its form: too long, cut off, a key of low order", async () => {
    const { chain } = await line(MAX_SUCCESSIONS);
    assert.ok(isChain(chain) && isChain(none));
    assert.ok(!isChain(new Uint8Array([...chain, ...chain.slice(0, 168)])));
    assert.ok(!isChain(chain.slice(1)));
    assert.ok(!isChain(new Uint8Array(168)));
  });
});

describe("a follower", () => {
  const follow = async (mode: TrustMode, files = memoryFiles()) => {
    const trust = await openTrustStore({ ...files, durable: true }, mode);
    const follower = createFollower({ trust, crypto, logger: silentLogger, meter: memoryMeter() });
    return { trust, follower };
  };

  test("moves a pin to the last key of the chain, on disk too", async () => {
    const files = memoryFiles();
    const { trust, follower } = await follow("tofu", files);
    const { keys, chain, newest } = await line(3);
    await trust.pin(NAME, keys[1]!.publicKey);
    assert.equal(await follower.learn(NAME, newest.publicKey, chain, keys[0]!.publicKey), true);
    assert.deepEqual(trust.lookup(NAME), newest.publicKey);
    assert.deepEqual((await follow("tofu", files)).trust.lookup(NAME), newest.publicKey);
    assert.ok(keys.slice(0, -1).every((pair) => follower.isSuperseded(NAME, pair.publicKey)));
    assert.ok(!follower.isSuperseded(NAME, newest.publicKey));
  });

  test("moves nothing when strict, when another key is pinned, or for nobody's pin", async () => {
    const { keys, chain, newest } = await line(1);
    const strict = await follow("strict");
    await strict.trust.pin(NAME, keys[0]!.publicKey);
    assert.equal(
      await strict.follower.learn(NAME, newest.publicKey, chain, keys[0]!.publicKey),
      true,
    );
    assert.deepEqual(strict.trust.lookup(NAME), keys[0]!.publicKey);
    assert.ok(!strict.follower.hasFollowed(NAME, keys[0]!.publicKey, newest.publicKey));
    const other = await follow("tofu");
    const stranger = await crypto.generateKeyPair();
    await other.trust.pin(NAME, stranger.publicKey);
    await other.follower.learn(NAME, newest.publicKey, chain);
    assert.deepEqual(other.trust.lookup(NAME), stranger.publicKey);
    assert.ok(!other.follower.isSuperseded(NAME, keys[0]!.publicKey));
    const without = await follow("tofu");
    await without.follower.learn(NAME, newest.publicKey, chain);
    assert.deepEqual(without.trust.list(), []);
  });

  test("keeps the old pin when the new one cannot be written, and tries again", async () => {
    const files = memoryFiles();
    let isFull = false;
    const { trust, follower } = await follow("tofu", {
      ...files,
      write: (path, bytes) =>
        isFull ? Promise.reject(new Error("disk full")) : files.write(path, bytes),
    });
    const { keys, chain, newest } = await line(1);
    await trust.pin(NAME, keys[0]!.publicKey);
    isFull = true;
    await follower.learn(NAME, newest.publicKey, chain);
    assert.deepEqual(trust.lookup(NAME), keys[0]!.publicKey);
    isFull = false;
    await follower.learn(NAME, newest.publicKey, chain);
    assert.deepEqual(trust.lookup(NAME), newest.publicKey);
  });
});

/** Files of a process that is killed before its change number `last`. */
function mortal(files: SecretFiles, last: number): SecretFiles & { readonly died: Promise<void> } {
  let changes = 0;
  const death = Promise.withResolvers<void>();
  const change = async (work: () => Promise<void>) => {
    if (changes++ < last) return await work();
    death.resolve();
    // What is killed neither fails nor goes on.
    await new Promise(() => {});
  };
  return {
    ...files,
    died: death.promise,
    write: (path, bytes) => change(() => files.write(path, bytes)),
    remove: (path) => change(() => files.remove(path)),
  };
}

describe("a rotation on disk", () => {
  const begin = async () => {
    const files: SecretFiles = { ...memoryFiles(), durable: true };
    const keys = await loadKeys(files, crypto);
    const chain = await loadChain(files, crypto, NAME, keys.publicKey);
    return { files, old: { name: NAME, keys, chain } };
  };

  test("leaves the old keys in a dated folder, and the new ones where keys are", async () => {
    const { files, old } = await begin();
    const first = await rotateKeys(files, crypto, old, AT);
    assert.equal(first.backup, "keys/backup-2026-11-23T12-30-01.005Z");
    assert.deepEqual(await files.read(`${first.backup}/node.key`), old.keys.secretKey);
    assert.deepEqual(await files.read(`${first.backup}/node.pub`), old.keys.publicKey);
    assert.deepEqual(await loadKeys(files, crypto), first.keys);
    assert.deepEqual(await loadChain(files, crypto, NAME, first.keys.publicKey), first.chain);
    const second = await rotateKeys(
      files,
      crypto,
      { name: NAME, keys: first.keys, chain: first.chain },
      AT,
    );
    assert.equal(second.backup, "keys/backup-2026-11-23T12-30-01.005Z-2");
    const names = await files.list("keys");
    assert.deepEqual(names.sort(), ["node.key", "node.pub", "succession"]);
  });

  test("cut off at any step starts with the old keys, or with the new ones and their word", async () => {
    const seen = new Set<string>();
    for (let step = 0;; step++) {
      const { files, old } = await begin();
      const dying = mortal(files, step);
      const finished = await Promise.race([
        rotateKeys(dying, crypto, old, AT).then(() => true),
        dying.died.then(() => false),
      ]);
      // The next starts may be killed, too; the one after them is not.
      for (let again = 0; again < 5; again++) {
        const starting = mortal(files, again);
        await Promise.race([loadKeys(starting, crypto), starting.died]);
      }
      const keys = await loadKeys(files, crypto);
      const chain = await loadChain(files, crypto, NAME, keys.publicKey);
      const isNew = !equalBytes(keys.publicKey, old.keys.publicKey);
      assert.deepEqual(await crypto.publicKeyOf(keys.secretKey), keys.publicKey);
      assert.deepEqual(
        await predecessors(chain, NAME, keys.publicKey, crypto),
        isNew ? [old.keys.publicKey] : [],
      );
      if (isNew) {
        assert.deepEqual(
          await files.read("keys/backup-2026-11-23T12-30-01.005Z/node.key"),
          old.keys.secretKey,
        );
      }
      seen.add(isNew ? "new" : "old");
      if (finished) {
        assert.ok(isNew);
        assert.ok(step >= 6, `${step} steps`);
        break;
      }
    }
    assert.deepEqual(seen, new Set(["old", "new"]));
  });

  test("whose file is damaged refuses to start and says what to do", async () => {
    const { files } = await begin();
    for (const bytes of [new Uint8Array(0), new Uint8Array(40), new Uint8Array(32 + 168)]) {
      await files.write("keys/rotation", bytes);
      await assert.rejects(
        loadKeys(files, crypto),
        (error) =>
          error instanceof ConfigError && /keys\/rotation is damaged; remove/.test(error.message),
      );
    }
  });

  test("that cannot be written leaves the old keys, and says so", async () => {
    const { files, old } = await begin();
    const full: SecretFiles = { ...files, write: () => Promise.reject(new Error("disk full")) };
    await assert.rejects(rotateKeys(full, crypto, old, AT), /disk full/);
    assert.deepEqual(await loadKeys(files, crypto), old.keys);
  });

  test("that is decided holds, although the usual files cannot be written yet", async () => {
    const { files, old } = await begin();
    const full: SecretFiles = {
      ...files,
      write: (path, bytes) =>
        path === "keys/node.key"
          ? Promise.reject(new Error("disk full"))
          : files.write(path, bytes),
    };
    const rotated = await rotateKeys(full, crypto, old, AT);
    assert.match(rotated.unfinished ?? "", /disk full/);
    assert.deepEqual(await loadKeys(files, crypto), rotated.keys);
  });

  test("of a node with another name by now shows no chain", async () => {
    const { files, old } = await begin();
    const { keys } = await rotateKeys(files, crypto, old, AT);
    assert.equal((await loadChain(files, crypto, "renamed@host", keys.publicKey)).length, 0);
  });
});
