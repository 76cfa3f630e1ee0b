import type { Bytes } from "../base/bytes.ts";
import type { Random } from "../base/random.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { ControlMessage } from "./messages.ts";
import type { StoreState } from "./store_state.ts";

/** What the parts of anti-entropy share. */
export interface SyncContext {
  /** Our name. */
  readonly self: NodeName;
  readonly random: Random;
  readonly stores: ReadonlyMap<string, StoreState>;
  /** The store that a peer speaks of, made if it is one that is held for others. */
  relay(name: string): StoreState | undefined;
  /** The peers that we gossip with. */
  readonly neighbours: ReadonlySet<NodeName>;
  sendControl(to: NodeName, message: ControlMessage): void;
  sendData(to: NodeName, body: Bytes): void;
  /** Counts something that a peer did wrong. */
  refuse(reason: string, store?: string): void;
}
