/** Spanning-tree machines of one tree in a network with latencies, in which edges come and go. */
import assert from "node:assert/strict";
import { pick, randomBelow, seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import type { Shape } from "../../src/broadcast/messages.ts";
import { SpanningTree } from "../../src/broadcast/spanning_tree.ts";

/** One node of the network. */
export interface NetNode {
  readonly name: string;
  readonly tree: SpanningTree;
  readonly peers: Set<NetNode>;
}

type Word = (to: SpanningTree, from: string, now: number) => void;

interface Frame {
  readonly at: number;
  readonly from: NetNode;
  readonly to: NetNode;
  readonly word: Word;
}

/** The nodes, their edges and the frames under way. */
export class Net {
  now = 0;
  nodes: NetNode[] = [];
  readonly #random: Random;
  #frames: Frame[] = [];
  readonly #last = new Map<string, number>();
  #count = 0;

  /** `nodes` in one component, with about `extra` edges a node beside those that connect all. */
  constructor(nodes: number, extra: number, random: Random) {
    this.#random = random;
    for (let i = 0; i < nodes; i++) this.join();
    for (let i = 0; i < nodes * extra; i++) this.#connectSome();
  }

  /** A new node with edges to one or two others. */
  join(): void {
    const name = `n${this.#count++}`;
    const node: NetNode = {
      name,
      peers: new Set(),
      tree: new SpanningTree(0, this.#count, seededRandom(randomBelow(this.#random, 2 ** 31)), {
        shape: (peer, shape: Shape) =>
          this.#send(node, peer, (to, from, now) => to.shaped(from, shape, now)),
        graft: (peer) => this.#send(node, peer, (to, from) => to.grafted(from)),
        prune: (peer) => this.#send(node, peer, (to, from) => to.pruned(from)),
        reshape: (peer) => this.#send(node, peer, (to, from, now) => to.asked(from, now)),
      }, () => {}),
    };
    const others = [pick(this.#random, this.nodes), pick(this.#random, this.nodes)];
    this.nodes.push(node);
    for (const other of others) if (other !== undefined) this.#connect(node, other);
  }

  /** An edge, of `node` or of anybody, goes, but another comes: views are refilled. */
  cutSomeEdge(node: NetNode | undefined = pick(this.#random, this.nodes)): void {
    const peer = node === undefined ? undefined : pick(this.#random, [...node.peers]);
    if (node === undefined || peer === undefined) return;
    this.#disconnect(node, peer);
    this.#repair();
  }

  /** A node stops. */
  remove(node: NetNode | undefined): void {
    if (node === undefined) return;
    this.nodes = this.nodes.filter((other) => other !== node);
    this.#frames = this.#frames.filter(({ to, from }) => to !== node && from !== node);
    for (const peer of [...node.peers]) this.#disconnect(node, peer);
    this.#repair();
  }

  run(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const frame = this.#frames.reduce<Frame | undefined>(
        (first, next) => first === undefined || next.at < first.at ? next : first,
        undefined,
      );
      const sleeper = this.nodes.reduce((first, node) =>
        node.tree.wakeAt < first.tree.wakeAt ? node : first
      );
      const at = Math.min(frame?.at ?? Infinity, sleeper.tree.wakeAt);
      if (at > end) break;
      this.now = Math.max(this.now, at);
      if (frame === undefined || sleeper.tree.wakeAt <= frame.at) {
        sleeper.tree.tick(this.now);
        assert.ok(sleeper.tree.wakeAt > this.now, "a tick does what is due");
        continue;
      }
      this.#frames.splice(this.#frames.indexOf(frame), 1);
      if (frame.to.peers.has(frame.from)) frame.word(frame.to.tree, frame.from.name, this.now);
    }
    this.now = end;
  }

  /** Whoever follows the parents never comes by the same node twice. */
  checkNoCycle(): void {
    for (const start of this.nodes) {
      const seen = new Set<NetNode>();
      for (let node: NetNode | undefined = start; node !== undefined; node = this.#parentOf(node)) {
        assert.ok(!seen.has(node), `a cycle through ${node.name}`);
        seen.add(node);
      }
    }
  }

  /** One root, everybody as near to it as the edges allow, and both ends agree about each edge. */
  check(when: string): void {
    const roots = this.nodes.filter(({ tree }) => tree.isRoot);
    assert.equal(roots.length, 1, `${when}: one root`);
    const hops = new Map<NetNode, number>(roots.map((root) => [root, 0]));
    for (const [node, far] of hops) {
      for (const peer of node.peers) if (!hops.has(peer)) hops.set(peer, far + 1);
    }
    let edges = 0;
    for (const node of this.nodes) {
      const far = hops.get(node);
      assert.ok(far !== undefined, `${when}: one component`);
      assert.ok(
        node.tree.hops >= far && node.tree.hops < Infinity,
        `${when}: ${node.name} has a way`,
      );
      if (when.startsWith("after the first")) assert.equal(node.tree.hops, far, when);
      for (const peer of node.peers) {
        const eager = node.tree.isEager(peer.name);
        assert.equal(
          eager,
          peer.tree.isEager(node.name),
          `${when}: the same at both ends`,
        );
        if (eager) edges++;
      }
    }
    assert.equal(edges / 2, this.nodes.length - 1, `${when}: a tree`);
  }

  #parentOf(node: NetNode): NetNode | undefined {
    return [...node.peers].find(({ name }) => name === node.tree.parent);
  }

  #send(from: NetNode, peer: string, word: Word): void {
    const to = [...from.peers].find(({ name }) => name === peer);
    assert.ok(to !== undefined, `${from.name} speaks to ${peer}, which is no neighbour`);
    const way = `${from.name} ${to.name}`;
    // In order, as on a link.
    const at = Math.max(this.now + 5 + randomBelow(this.#random, 90), this.#last.get(way) ?? 0);
    this.#last.set(way, at);
    this.#frames.push({ at, from, to, word });
  }

  #connect(a: NetNode, b: NetNode): void {
    if (a === b || a.peers.has(b)) return;
    a.peers.add(b);
    b.peers.add(a);
    a.tree.neighbourUp(b.name);
    b.tree.neighbourUp(a.name);
  }

  #disconnect(a: NetNode, b: NetNode): void {
    a.peers.delete(b);
    b.peers.delete(a);
    this.#frames = this.#frames.filter(({ from, to }) =>
      !(from === a && to === b) && !(from === b && to === a)
    );
    if (this.nodes.includes(a)) a.tree.neighbourDown(b.name, this.now);
    if (this.nodes.includes(b)) b.tree.neighbourDown(a.name, this.now);
  }

  #connectSome(): void {
    const a = pick(this.#random, this.nodes);
    const b = pick(this.#random, this.nodes);
    if (a !== undefined && b !== undefined) this.#connect(a, b);
  }

  /** Brings all into one component again. */
  #repair(): void {
    for (;;) {
      const [first] = this.nodes;
      if (first === undefined) return;
      const reached = new Set([first]);
      for (const node of reached) for (const peer of node.peers) reached.add(peer);
      const lost = this.nodes.find((node) => !reached.has(node));
      if (lost === undefined) return;
      this.#connect(lost, pick(this.#random, [...reached]) ?? first);
    }
  }
}
