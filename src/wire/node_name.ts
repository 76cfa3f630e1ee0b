import { ProtocolError } from "../base/errors.ts";
import { MAX_NODE_NAME_BYTES } from "./limits.ts";

/** A node's name, `name@host`, unique in the cluster; a string that {@link isNodeName} accepts. */
export type NodeName = string;

// name: what Erlang accepts without quotes, and nothing that means something to a file system.
// host: a DNS name, an IPv4 address, or an IPv6 address in brackets.
const GRAMMAR =
  /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,187}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])$/;

/** Whether `text` is a well-formed node name. */
export function isNodeName(text: unknown): text is NodeName {
  return typeof text === "string" && text.length <= MAX_NODE_NAME_BYTES && GRAMMAR.test(text);
}

/**
 * `text` as a node name.
 *
 * @throws ProtocolError `bad_node_name`.
 */
export function nodeName(text: unknown): NodeName {
  if (isNodeName(text)) return text;
  const shown = typeof text === "string" ? JSON.stringify(text.slice(0, 80)) : typeof text;
  throw new ProtocolError("bad_node_name", `${shown} is not a node name; write name@host`);
}

/**
 * A file name for a node, equal only for equal names, also where a file system takes `A` for `a`:
 * everything but small letters, digits, `_`, `-`, `.` and `@` becomes `%XX`. Injective, since the
 * grammar has no `%`.
 */
export function fileNameOf(name: NodeName): string {
  return name.replace(
    /[^a-z0-9_.@-]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
}
