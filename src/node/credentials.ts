import { encodeHex } from "@std/encoding/hex";
import type { Bytes } from "../base/bytes.ts";
import type { Crypto, KeyPair } from "../base/crypto.ts";
import { tlsIdentity } from "../identity/certificate.ts";
import type { Credentials } from "../link/handshake_driver.ts";
import type { PeerIdentity } from "../link/ports.ts";
import type { Connection, TlsIdentity } from "../transport/contract.ts";

/** The keys of this life of the node: those it has, and those it had before a rotation. */
export interface KeyRing {
  /** This life of the node; its key is always the newest. */
  readonly self: PeerIdentity;
  /** How the node came to its newest key. */
  readonly chain: Bytes;
  readonly keys: KeyPair;
  readonly tls: TlsIdentity;
  /** The pair behind a public key that this life has or had. */
  keysOf(publicKey: Bytes): KeyPair;
  /** Who we are on a connection: whoever its certificate, which may be an older one, said. */
  credentials(connection: Connection): Credentials;
  /** Goes on under new keys. */
  become(keys: KeyPair, chain: Bytes, tls: TlsIdentity): void;
}

/** Begins a life with the keys it starts with. */
export async function createKeyRing(
  life: Omit<PeerIdentity, "publicKey">,
  keys: KeyPair,
  chain: Bytes,
  crypto: Crypto,
): Promise<KeyRing> {
  const self: PeerIdentity & { publicKey: Bytes } = { ...life, publicKey: keys.publicKey };
  const byKey = new Map<string, KeyPair>();
  const byBinding = new Map<string, Credentials>();
  let newest: { keys: KeyPair; chain: Bytes; tls: TlsIdentity; credentials: Credentials };
  const become = (next: KeyPair, nextChain: Bytes, tls: TlsIdentity) => {
    self.publicKey = next.publicKey;
    const credentials = {
      self: { ...life, publicKey: next.publicKey },
      keys: next,
      successions: nextChain,
    };
    newest = { keys: next, chain: nextChain, tls, credentials };
    byKey.set(encodeHex(next.publicKey), next);
    byBinding.set(encodeHex(crypto.sha256(tls.certificate)), credentials);
  };
  become(keys, chain, await tlsIdentity(keys, crypto));
  return {
    self,
    get chain() {
      return newest.chain;
    },
    get keys() {
      return newest.keys;
    },
    get tls() {
      return newest.tls;
    },
    keysOf(publicKey) {
      const pair = byKey.get(encodeHex(publicKey));
      if (pair === undefined) throw new Error("a key that this life never had");
      return pair;
    },
    credentials({ role, channelBinding }) {
      if (role === "client" || channelBinding === undefined) return newest.credentials;
      return byBinding.get(encodeHex(channelBinding)) ?? newest.credentials;
    },
    become,
  };
}
