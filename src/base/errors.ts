/**
 * The base of every error this library throws. `code` is stable and made for branching; the
 * message says what happened, to whom, and what to do.
 */
export class BarrelError extends Error {
  /** A stable, machine-readable name of what went wrong, such as `"config"`. */
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** An option is unknown, ill-typed or impossible here. `path` names it, such as `auth.trustMode`. */
export class ConfigError extends BarrelError {
  /** The dotted path of the option. */
  readonly path: string;
  constructor(path: string, message: string, options?: ErrorOptions) {
    super("config", path === "" ? message : `${path}: ${message}`, options);
    this.path = path;
  }
}

/** A listener, dial or connection failed. `reason` is stable: `"address_in_use"`, `"refused"`, … */
export class TransportError extends BarrelError {
  /** What failed, in a stable word. */
  readonly reason: string;
  constructor(reason: string, message: string, options?: ErrorOptions) {
    super("transport", message, options);
    this.reason = reason;
  }
}

/** The handshake refused the peer, or the peer refused us. `reason` is the same on both ends. */
export class HandshakeError extends BarrelError {
  /** The named reason, such as `"bad_signature"` or `"cluster_mismatch"`. */
  readonly reason: string;
  constructor(reason: string, message: string, options?: ErrorOptions) {
    super("handshake", message, options);
    this.reason = reason;
  }
}

/** Bytes from a peer do not follow the protocol. `reason` names the rule they broke. */
export class ProtocolError extends BarrelError {
  /** The rule that was broken, in a stable word. */
  readonly reason: string;
  constructor(reason: string, message: string, options?: ErrorOptions) {
    super("protocol", message, options);
    this.reason = reason;
  }
}

/** A value cannot be sent. `path` leads to the offending part, such as `$.items[3].run`, or the first steps of it. */
export class EncodeError extends BarrelError {
  /** Where in the value the trouble is; `$` is the value itself. */
  readonly path: string;
  constructor(path: string, message: string, options?: ErrorOptions) {
    super("encode", `${path}: ${message}`, options);
    this.path = path;
  }
}

/** Something did not happen within its deadline. */
export class TimeoutError extends BarrelError {
  constructor(message: string, options?: ErrorOptions) {
    super("timeout", message, options);
  }
}

/** The hard limit of buffered bytes towards a peer is reached; nothing was sent. */
export class OverloadedError extends BarrelError {
  constructor(message: string, options?: ErrorOptions) {
    super("overloaded", message, options);
  }
}

/** The thing is taken: a registered name, a stream tag, a node name. */
export class ConflictError extends BarrelError {
  constructor(message: string, options?: ErrorOptions) {
    super("conflict", message, options);
  }
}

/** The node, process or handle has been closed. */
export class ClosedError extends BarrelError {
  constructor(message: string, options?: ErrorOptions) {
    super("closed", message, options);
  }
}

/**
 * The disk did not take a write or give one back; nothing of the write happened. `reason`: `"full"`,
 * `"read_only"`, `"corrupt"`, `"closed"`, `"busy"`, `"unavailable"`, `"io"`.
 */
export class StorageError extends BarrelError {
  /** What failed, in a stable word. */
  readonly reason: string;
  constructor(reason: string, message: string, options?: ErrorOptions) {
    super("storage", message, options);
    this.reason = reason;
  }
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
