import type { NodeName } from "../wire/node_name.ts";

/**
 * The addresses to tell others for those that were bound: a wildcard host (`0.0.0.0`, `[::]`)
 * becomes the host of the node's name, as Erlang does it.
 */
export function advertised(bound: readonly string[], name: NodeName): string[] {
  const host = name.slice(name.indexOf("@") + 1);
  return bound.map((address) => address.replace(/\/\/(?:0\.0\.0\.0|\[::\]):/, `//${host}:`));
}
