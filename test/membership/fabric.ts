import type { Bytes } from "../../src/base/bytes.ts";
import type { Clock } from "../../src/base/clock.ts";
import { TransportError } from "../../src/base/errors.ts";
import type { Channel, LinkEvent, Links, PeerIdentity } from "../../src/link/ports.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import type { VirtualClock } from "../../src/testing/virtual_clock.ts";
import type { FrameType } from "../../src/wire/frame_types.ts";

/** One node's end of the {@link Fabric}. */
export interface FabricNode {
  readonly links: Links;
  readonly clock: Clock;
  /** Hands a frame over as if `from` had sent it; what the handler throws comes out here. */
  inject(type: FrameType, body: Bytes, from: PeerIdentity): void;
}

/** Links between drivers in one process: frames arrive a millisecond later, on virtual time. */
export class Fabric {
  readonly time: VirtualClock = createVirtualClock();
  readonly #nodes = new Map<string, FabricNode & { emit: (event: LinkEvent) => void }>();

  /** A node that others reach at `fabric://<name>`. */
  add(name: string): FabricNode {
    const { clock } = this.time.view();
    const self: PeerIdentity = {
      name,
      publicKey: new Uint8Array(32).fill(name.charCodeAt(0)),
      epoch: 1,
      addresses: [`fabric://${name}`],
    };
    const channels = new Map<FrameType, Channel>();
    const listeners = new Set<(event: LinkEvent) => void>();
    const peers = new Map<string, PeerIdentity>();
    const emit = (event: LinkEvent) => {
      if (event.type === "linkUp") peers.set(event.peer.name, event.peer);
      else peers.delete(event.peer.name);
      for (const listener of listeners) listener(event);
    };
    const connect = (peer: string): Promise<PeerIdentity> => {
      const other = this.#nodes.get(peer);
      if (other === undefined) {
        return Promise.reject(new TransportError("refused", `nobody is at ${peer}`));
      }
      const known = peers.get(peer);
      if (known === undefined) {
        emit({ type: "linkUp", peer: other.links.self });
        other.emit({ type: "linkUp", peer: self });
      }
      return Promise.resolve(other.links.self);
    };
    const channel = (type: FrameType): Channel => {
      const existing = channels.get(type);
      if (existing !== undefined) return existing;
      const added: Channel = {
        room() {},
        onFrame: undefined,
        onUndelivered: undefined,
        send(peer, body) {
          clock.after(1, () => {
            connect(peer).then(
              () => nodes.get(peer)?.inject(type, body, self),
              () => added.onUndelivered?.(peer, "refused"),
            );
          });
        },
      };
      channels.set(type, added);
      return added;
    };
    const nodes = this.#nodes;
    const node = {
      clock,
      emit,
      inject: (type: FrameType, body: Bytes, from: PeerIdentity) =>
        channels.get(type)?.onFrame?.(body, from),
      links: {
        self,
        channel,
        peers: () => [...peers.values()],
        peer: (peer: string) => peers.get(peer),
        connect,
        connectAddress: (address: string) => connect(address.slice("fabric://".length)),
        disconnect(peer: string) {
          const identity = peers.get(peer);
          if (identity === undefined) return Promise.resolve();
          emit({ type: "linkDown", peer: identity, reason: "goodbye" });
          nodes.get(peer)?.emit({ type: "linkDown", peer: self, reason: "goodbye" });
          return Promise.resolve();
        },
        on(listener: (event: LinkEvent) => void) {
          listeners.add(listener);
          return () => void listeners.delete(listener);
        },
      },
    };
    nodes.set(name, node);
    return node;
  }

  /** Takes a node away without a word; its links break. */
  remove(name: string): void {
    const gone = this.#nodes.get(name);
    this.#nodes.delete(name);
    for (const node of this.#nodes.values()) {
      const peer = node.links.peer(name);
      if (peer === undefined || gone === undefined) continue;
      node.emit({ type: "linkDown", peer, reason: "lost" });
    }
  }
}
