/** Application close codes of a connection (RFC 9000 §20.2); 0 is never used. */
export const CloseCode = {
  /** Both ends said goodbye. */
  GOODBYE: 1,
  /** The handshake was refused; the reason phrase names why. */
  HANDSHAKE: 2,
  /** Frames that break the protocol; the reason phrase names the rule. */
  PROTOCOL: 3,
  /** Another link to the same node took over. */
  REPLACED: 4,
  /** The peer did not take what was sent to it for too long. */
  OVERLOADED: 5,
  /** The key is known now; the client dials again, pinned. */
  REDIAL: 6,
  /** The deadline of an orderly close passed. */
  GOODBYE_TIMEOUT: 7,
  /** Too many connections that have not authenticated. */
  TOO_MANY: 8,
} as const;
