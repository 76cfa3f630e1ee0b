/**
 * The type byte of every frame on a link. The first group belongs to the pipe itself; the others
 * are routed to the room that owns them. Numbers are part of the protocol: never reuse one.
 */
export const FrameType = {
  // the pipe (link/framed_pipe.ts)
  END: 0x01,
  ABORT: 0x02,
  CREDIT: 0x03,
  /** A piece of a larger frame that is not the last; the last comes under its own type. */
  FRAGMENT: 0x04,
  /** Bytes of a tagged stream, on a pipe of its own. */
  DATA: 0x05,

  // the link (link/link.ts)
  /** First frame of a pipe: what it is for. */
  PREAMBLE: 0x08,
  GOODBYE: 0x09,
  GOODBYE_ACK: 0x0a,
  PING: 0x0b,
  PONG: 0x0c,

  // handshake (identity/handshake.ts), on the first pipe only
  HELLO: 0x10,
  PROOF: 0x11,
  READY: 0x12,
  REFUSE: 0x13,
  /** One of the others, sealed, where TLS ends at a proxy (identity/session.ts). */
  SEALED: 0x14,
  /** The number of a sealed pipe, first of all on it (link/sealed_pipe.ts). */
  SEALED_PIPE: 0x15,

  // tagged streams (stream/protocol.ts), on a pipe of their own; they need no credit
  STREAM_ACCEPTED: 0x18,
  STREAM_FINISH: 0x19,
  STREAM_FINISH_ACK: 0x1a,
  STREAM_RESET: 0x1b,
  STREAM_STOP: 0x1c,

  // control pipe
  HYPARVIEW: 0x20,
  PLUMTREE_CONTROL: 0x21,
  LIVENESS: 0x22,
  REPLICA_CONTROL: 0x23,
  ROUTER: 0x24,
  /** A node's new key, as its old one says (node/rotation.ts). */
  SUCCESSION: 0x25,

  // data pipes
  PLUMTREE_GOSSIP: 0x30,
  REPLICA_DATA: 0x31,

  // actors, on the data pipe of the destination process
  SEND: 0x40,
  CALL: 0x42,
  REPLY: 0x43,
  MONITOR: 0x44,
  DEMONITOR: 0x45,
  DOWN: 0x46,
  LINK: 0x47,
  UNLINK: 0x48,
  EXIT: 0x49,
  CANCEL_CALL: 0x4a,
  UNLINK_ACK: 0x4b,

  // remote procedures, on the data pipe of the call
  RPC_CALL: 0x50,
  RPC_ANSWER: 0x51,
  RPC_ITEM: 0x52,
  RPC_CREDIT: 0x53,
  RPC_CANCEL: 0x54,
} as const;

/** One of the {@link FrameType} numbers. */
export type FrameType = (typeof FrameType)[keyof typeof FrameType];
