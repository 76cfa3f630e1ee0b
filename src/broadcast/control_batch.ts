import type { NodeName } from "../wire/node_name.ts";
import type { Control, MessageId, Shape } from "./messages.ts";
import type { TreeVoice } from "./spanning_tree.ts";

interface Words {
  grafts: number;
  readonly ids: MessageId[];
  prunes: number;
  reshapes: number;
  readonly shapes: (Shape | undefined)[];
}

/** What one turn says to neighbours about trees: one frame of each kind a neighbour. */
export class ControlBatch implements TreeVoice {
  readonly #byPeer = new Map<NodeName, Words>();

  shape(peer: NodeName, shape: Shape): void {
    this.#words(peer).shapes[shape.tree] = shape;
  }

  graft(peer: NodeName, tree: number): void {
    const words = this.#words(peer);
    words.grafts |= 1 << tree;
    words.prunes &= ~(1 << tree);
  }

  prune(peer: NodeName, tree: number): void {
    const words = this.#words(peer);
    words.prunes |= 1 << tree;
    words.grafts &= ~(1 << tree);
  }

  reshape(peer: NodeName, tree: number): void {
    this.#words(peer).reshapes |= 1 << tree;
  }

  /** Asks for a message. */
  request(peer: NodeName, id: MessageId): void {
    this.#words(peer).ids.push(id);
  }

  /** Nothing is said to this one. */
  forget(peer: NodeName): void {
    this.#byPeer.delete(peer);
  }

  /** All that was said, in frames of at most `maxIds` requests. */
  take(maxIds: number): { peer: NodeName; message: Control }[] {
    const out: { peer: NodeName; message: Control }[] = [];
    for (const [peer, { grafts, ids, prunes, reshapes, shapes }] of this.#byPeer) {
      const say = (message: Control) => out.push({ peer, message });
      if (prunes !== 0) say({ type: "prune", trees: prunes });
      for (let i = 0; i === 0 ? grafts !== 0 || ids.length > 0 : i < ids.length; i += maxIds) {
        say({ type: "graft", trees: i === 0 ? grafts : 0, ids: ids.slice(i, i + maxIds) });
      }
      const places = shapes.filter((shape) => shape !== undefined);
      if (places.length > 0) say({ type: "shape", shapes: places });
      if (reshapes !== 0) say({ type: "reshape", trees: reshapes });
    }
    this.#byPeer.clear();
    return out;
  }

  #words(peer: NodeName): Words {
    const known = this.#byPeer.get(peer);
    if (known !== undefined) return known;
    const words: Words = { grafts: 0, ids: [], prunes: 0, reshapes: 0, shapes: [] };
    this.#byPeer.set(peer, words);
    return words;
  }
}
