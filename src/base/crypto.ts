/** A raw Ed25519 key pair (RFC 8032): 32-byte seed and 32-byte public key. */
export interface KeyPair {
  readonly publicKey: Uint8Array<ArrayBuffer>;
  readonly secretKey: Uint8Array<ArrayBuffer>;
}

/** One end of an X25519 key agreement (RFC 7748 §6.1); its secret never leaves it. */
export interface Agreement {
  readonly publicKey: Uint8Array<ArrayBuffer>;
  /**
   * The 32 bytes shared with the holder of `publicKey`; `undefined` when they would be zero (a key of
   * low order, RFC 7748 §6.1) or the key is not one. Never rejects.
   */
  agree(publicKey: Uint8Array): Promise<Uint8Array<ArrayBuffer> | undefined>;
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
  /** A new X25519 key, for one connection. */
  newAgreement(): Promise<Agreement>;
  /** HKDF-SHA-256 (RFC 5869), 32 bytes. */
  hkdf(secret: Uint8Array, salt: Uint8Array, info: Uint8Array): Uint8Array<ArrayBuffer>;
  /**
   * ChaCha20-Poly1305 (RFC 8439): the ciphertext and its 16-byte tag. Synchronous, as frames are
   * sealed while they are written. A nonce of 12 bytes is used once per key.
   */
  seal(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array): Uint8Array<ArrayBuffer>;
  /** What `seal` was given; `undefined` when a bit was changed. */
  open(
    key: Uint8Array,
    nonce: Uint8Array,
    sealed: Uint8Array,
  ): Uint8Array<ArrayBuffer> | undefined;
}

/** The part of {@link Crypto} that never waits: pure machines may call it. */
export type SyncCrypto = Pick<Crypto, "sha256" | "hmac" | "hkdf" | "seal" | "open">;
