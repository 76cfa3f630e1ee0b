/** Caps on what a peer may send, in bytes or counts. A wire constant is the same on every node. */

/** A node name, `name@host`, in UTF-8 bytes. */
export const MAX_NODE_NAME_BYTES: number = 255;
/** A registered, service or topic name, in UTF-8 bytes. */
export const MAX_NAME_BYTES: number = 255;
/** One address URL, in bytes. */
export const MAX_ADDRESS_BYTES: number = 255;
/** Addresses in one peer record. */
export const MAX_ADDRESSES: number = 8;
/** The body of one frame on a pipe. Larger messages travel as fragments. */
export const MAX_BODY_BYTES: number = 64 * 1024;
/** One frame of the control channel's protocols. */
export const MAX_CONTROL_FRAME_BYTES: number = 64 * 1024;
/** A handshake message; a stranger can make us hold no more. */
export const MAX_HANDSHAKE_BYTES: number = 6 * 1024;
