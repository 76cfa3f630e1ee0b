import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeHex } from "@std/encoding/hex";
import { concat, equalBytes } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import type { KeyPair } from "../../src/base/crypto.ts";
import { nobleCrypto } from "../../src/base/noble_crypto.ts";
import { seededRandom } from "../../src/base/random.ts";
import { webCrypto } from "../../src/base/web_crypto.ts";
import {
  CERTIFICATE_NAME,
  certificateOf,
  publicKeyOfCertificate,
  tlsIdentity,
} from "../../src/identity/certificate.ts";
import { der, oid, pem } from "../../src/identity/der.ts";
import { describe, test } from "../harness.ts";

const noble = nobleCrypto(seededRandom(1));
const web = webCrypto(crypto.subtle);
const hash = (bytes: Uint8Array) => encodeHex(noble.sha256(bytes));

async function keysOf(seed: number): Promise<KeyPair> {
  const secretKey = new Uint8Array(32).fill(seed);
  return { secretKey, publicKey: await noble.publicKeyOf(secretKey) };
}

const run = (command: string, ...args: string[]) =>
  new Promise<{ ok: boolean; output: string }>((resolve) => {
    execFile(command, args, { timeout: 20_000 }, (error, stdout, stderr) => {
      resolve({ ok: error === null, output: stdout + stderr });
    });
  });

const hasOpenssl = (await run("openssl", "version")).output.startsWith("OpenSSL 3");
const openssl = hasOpenssl ? {} : { skip: "there is no OpenSSL 3 on this machine" };

describe("the certificate of a key", () => {
  // Every node ever built computes these bytes: a change is a change of the protocol.
  test("is the same, byte for byte, for ever and on every runtime", async () => {
    const { publicKey } = await keysOf(7);
    for (const crypto of [noble, web]) {
      const certificate = await certificateOf(publicKey, crypto);
      assert.equal(
        hash(certificate),
        "09d8a44d9c5f9116f40de4a753def2244c4d2553d14a4ecaed6aca8561f62d70",
      );
      const identity = await tlsIdentity(await keysOf(7), crypto);
      assert.deepEqual(identity.certificate, certificate);
      assert.equal(
        hash(bytesOfPem(identity.issuerPem)),
        "dd2c7ee76cb28a046b13f1820cb9fc0093b1048377debfd553ebb4fe19ff2298",
      );
    }
  });

  test("has one length for all keys, whatever their serial begins with", async () => {
    const lengths = new Set<number>();
    for (let seed = 0; seed < 40; seed++) {
      lengths.add((await certificateOf((await keysOf(seed)).publicKey, web)).length);
    }
    assert.equal(lengths.size, 1);
  });

  test("gives its key back", async () => {
    for (let seed = 0; seed < 10; seed++) {
      const { publicKey } = await keysOf(seed);
      const certificate = await certificateOf(publicKey, web);
      assert.deepEqual(await publicKeyOfCertificate(certificate, web), publicKey);
    }
  });

  test("is refused with any byte changed, cut off or added", { timeoutMs: 60_000 }, async () => {
    const certificate = await certificateOf((await keysOf(7)).publicKey, web);
    const bad = [new Uint8Array(0), concat([certificate, Uint8Array.of(0)])];
    for (let i = 0; i < certificate.length; i++) {
      bad.push(certificate.slice(0, i));
      for (const bit of [1, 0x80]) {
        const changed = certificate.slice();
        changed[i] = (changed[i] as number) ^ bit;
        bad.push(changed);
      }
    }
    for (const bytes of bad) {
      await assert.rejects(publicKeyOfCertificate(bytes, web), { reason: "bad_certificate" });
    }
  });

  test("of another key under this key's name is refused", async () => {
    const one = await certificateOf((await keysOf(1)).publicKey, web);
    const { publicKey } = await keysOf(2);
    const at = indexOf(one, (await keysOf(1)).publicKey);
    const forged = one.slice();
    forged.set(publicKey, at);
    await assert.rejects(publicKeyOfCertificate(forged, web), { reason: "bad_certificate" });
  });

  test("reads as what it should be: a leaf for every time and the one name", async () => {
    const keys = await keysOf(7);
    const { certificate, certificatePem, issuerPem } = await tlsIdentity(keys, web);
    const leaf = new X509Certificate(certificatePem);
    const issuer = new X509Certificate(issuerPem);
    assert.ok(equalBytes(new Uint8Array(leaf.raw), certificate));
    assert.equal(leaf.subject, `CN=${CERTIFICATE_NAME}`);
    assert.equal(leaf.issuer, issuer.subject);
    assert.equal(leaf.ca, false);
    assert.equal(issuer.ca, true);
    assert.equal(leaf.subjectAltName, `DNS:${CERTIFICATE_NAME}`);
    assert.equal(new Date(leaf.validFrom).getTime(), 0);
    assert.equal(new Date(leaf.validTo).getUTCFullYear(), 9999);
    assert.equal(leaf.publicKey.asymmetricKeyType, "ed25519");
    const spki = new Uint8Array(leaf.publicKey.export({ type: "spki", format: "der" }));
    assert.deepEqual(spki.slice(-32), keys.publicKey);
    assert.equal(leaf.verify(issuer.publicKey), true);
    assert.equal(issuer.verify(issuer.publicKey), true);
  });

  test("comes with the private key that fits it", async () => {
    const keys = await keysOf(7);
    const { privateKeyPem } = await tlsIdentity(keys, web);
    const key = await crypto.subtle.importKey(
      "pkcs8",
      bytesOfPem(privateKeyPem),
      "Ed25519",
      false,
      [
        "sign",
      ],
    );
    const message = Uint8Array.of(1, 2, 3);
    const signature = new Uint8Array(await crypto.subtle.sign("Ed25519", key, message));
    assert.equal(await web.verify(signature, message, keys.publicKey), true);
  });

  test("satisfies OpenSSL at its strictest", openssl, async () => {
    const folder = await mkdtemp(join(tmpdir(), "barrel certificate "));
    try {
      for (let seed = 0; seed < 4; seed++) {
        const identity = await tlsIdentity(await keysOf(seed), web);
        const leaf = join(folder, "leaf.pem");
        const issuer = join(folder, "issuer.pem");
        await writeFile(leaf, identity.certificatePem);
        await writeFile(issuer, identity.issuerPem);
        const strict = await run(
          "openssl",
          "verify",
          "-x509_strict",
          "-check_ss_sig",
          "-purpose",
          "sslserver",
          "-verify_hostname",
          CERTIFICATE_NAME,
          "-CAfile",
          issuer,
          leaf,
        );
        assert.ok(strict.ok, strict.output);
        assert.match(strict.output, /: OK/);
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe("DER", () => {
  test("lengths take the shortest form", () => {
    assert.deepEqual(der(0x04), Uint8Array.of(0x04, 0));
    assert.deepEqual([...der(0x04, new Uint8Array(127))].slice(0, 3), [0x04, 0x7f, 0]);
    assert.deepEqual([...der(0x04, new Uint8Array(128))].slice(0, 3), [0x04, 0x81, 0x80]);
    assert.deepEqual([...der(0x04, new Uint8Array(255))].slice(0, 3), [0x04, 0x81, 0xff]);
    assert.deepEqual([...der(0x04, new Uint8Array(256))].slice(0, 4), [0x04, 0x82, 1, 0]);
    assert.deepEqual([...der(0x04, new Uint8Array(65_535))].slice(0, 4), [0x04, 0x82, 255, 255]);
    assert.deepEqual(der(0x30, Uint8Array.of(1), Uint8Array.of(2)), Uint8Array.of(0x30, 2, 1, 2));
  });

  test("identifiers are packed in base 128", () => {
    assert.equal(encodeHex(oid(1, 3, 101, 112)), "06032b6570");
    assert.equal(encodeHex(oid(2, 5, 29, 19)), "0603551d13");
    assert.equal(encodeHex(oid(1, 2, 840, 113549)), "06062a864886f70d");
  });

  test("PEM breaks its lines after 64 characters", () => {
    const text = pem("THING", new Uint8Array(49).fill(0xff));
    assert.equal(
      text,
      `-----BEGIN THING-----\n${"/".repeat(64)}\n/w==\n-----END THING-----\n`,
    );
  });
});

function bytesOfPem(text: string): Bytes {
  const base64 = text.replace(/-----[^-]+-----|\n/g, "");
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

function indexOf(haystack: Uint8Array, needle: Uint8Array): number {
  for (let i = 0; i < haystack.length; i++) {
    if (equalBytes(haystack.subarray(i, i + needle.length), needle)) return i;
  }
  throw new Error("not there");
}
