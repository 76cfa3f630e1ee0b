/** `node.maps`: the maps that this node has open. */
import { utf8Length } from "../base/bytes.ts";
import { BarrelError, ClosedError, ConfigError, ConflictError } from "../base/errors.ts";
import type { DurableStore } from "../storage/contract.ts";
import { openMap } from "./map.ts";
import type { MapContext, OpenMap, SharedMap } from "./map.ts";
import type { MapOptions } from "./options.ts";

/** A map's name, in UTF-8 bytes. */
const MAX_MAP_NAME_BYTES = 64;

/** `node.maps`. */
export interface Maps {
  /**
   * Opens a map, which each node does that wants to read or write it; nodes that do not still pass
   * its entries on. Without options it is also the way to a map that is open here already.
   *
   * @throws BarrelError `bad_name`, `replica_limit`; ConflictError when it is open with other options;
   * ConfigError when they contradict each other; StorageError
   */
  open<V = unknown>(name: string, options?: MapOptions<V>): Promise<SharedMap<V>>;
  /** The names of the maps that are open here. */
  names(): string[];
}

/** The maps as the node drives them. */
export interface MapsDriver extends Maps {
  close(): void;
}

/** Starts without a map. `disk` opens the node's durable store at the first need. */
export function createMaps(context: MapContext, disk: () => Promise<DurableStore>): MapsDriver {
  const maps = new Map<string, Promise<OpenMap<unknown>>>();
  let isClosed = false;

  async function make<V>(name: string, options: MapOptions<V>): Promise<OpenMap<V>> {
    const saved = options.persist === true ? await disk() : undefined;
    if (isClosed) throw new ClosedError("the node is closed");
    return openMap(name, options, saved, context);
  }

  return {
    async open<V>(name: string, options?: MapOptions<V>): Promise<SharedMap<V>> {
      checkName(name);
      if (isClosed) throw new ClosedError("the node is closed");
      const known = maps.get(name);
      if (known !== undefined) {
        if (options !== undefined) throw new ConflictError(`the map ${name} is open already`);
        return (await known).map as SharedMap<V>;
      }
      const wanted = options ?? {};
      if (wanted.persist === true && wanted.ephemeral === true) {
        throw new ConfigError("persist", "a presence map (ephemeral) cannot be kept");
      }
      const opening = make(name, wanted);
      maps.set(name, opening as Promise<OpenMap<unknown>>);
      try {
        return (await opening).map;
      } catch (error) {
        maps.delete(name);
        throw error;
      }
    },
    names: () => [...maps.keys()],
    close() {
      isClosed = true;
      for (const map of maps.values()) map.then(({ close }) => close(), () => {});
    },
  };
}

function checkName(name: unknown): asserts name is string {
  if (typeof name === "string" && name.length > 0 && name.isWellFormed()) {
    if (utf8Length(name) <= MAX_MAP_NAME_BYTES) return;
  }
  throw new BarrelError("bad_name", `a map's name has 1 to ${MAX_MAP_NAME_BYTES} bytes of UTF-8`);
}
