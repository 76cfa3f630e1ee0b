/** A raw Ed25519 key pair (RFC 8032): 32-byte seed and 32-byte public key. */
export interface KeyPair {
  readonly publicKey: Uint8Array<ArrayBuffer>;
  readonly secretKey: Uint8Array<ArrayBuffer>;
}

/**
 * The cryptography that protocols need, injected: WebCrypto where the host has it,
 * `@noble` otherwise and in simulations (where promises must settle within the turn).
 */
export interface Crypto {
  /** A new Ed25519 key pair. */
  generateKeyPair(): Promise<KeyPair>;
  /** The public key of a 32-byte secret seed. */
  publicKeyOf(secretKey: Uint8Array): Promise<Uint8Array<ArrayBuffer>>;
  /** A 64-byte Ed25519 signature of `message`. */
  sign(message: Uint8Array, keys: KeyPair): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Whether `signature` is `publicKey`'s over `message`, by RFC 8032's strict rules: canonical
   * encodings only, low-order keys refused. Never throws, whatever the bytes.
   */
  verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): Promise<boolean>;
  /** SHA-256, synchronous: hashes are on paths that may not yield. */
  sha256(data: Uint8Array): Uint8Array<ArrayBuffer>;
  /** HMAC-SHA-256. */
  hmac(key: Uint8Array, data: Uint8Array): Uint8Array<ArrayBuffer>;
}
