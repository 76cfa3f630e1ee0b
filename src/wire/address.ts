import { MAX_ADDRESS_BYTES } from "./limits.ts";

// Printable ASCII: what goes into logs and other nodes' messages carries nothing hidden.
const GRAMMAR = /^[a-z][a-z0-9+.-]*:\/\/[\x21-\x7e]+$/;

/** Whether `text` can be a node's address: an absolute URL in ASCII, at most 255 bytes. */
export function isAddress(text: unknown): text is string {
  return typeof text === "string" && text.length <= MAX_ADDRESS_BYTES && GRAMMAR.test(text);
}
