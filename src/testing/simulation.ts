/** Whole nodes on virtual time over an in-memory network: one seed, one history. */
import { encodeHex } from "@std/encoding/hex";
import * as v from "valibot";
import { concat, utf8 } from "../base/bytes.ts";
import { checkConfig } from "../base/check_config.ts";
import type { Crypto } from "../base/crypto.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { nobleCrypto, syncHashes } from "../base/noble_crypto.ts";
import { seededRandom } from "../base/random.ts";
import { memoryFiles } from "../base/secret_files.ts";
import type { SecretFiles } from "../base/secret_files.ts";
import { memoryMeter } from "../metrics/meter.ts";
import { createNode } from "../node/node.ts";
import type { Node } from "../node/node.ts";
import type { NodeOptions } from "../node/options.ts";
import type { DurableStore } from "../storage/contract.ts";
import { memoryStore } from "../storage/memory.ts";
import { createMemoryNetwork } from "../transport/memory.ts";
import type { MemoryHost } from "../transport/memory.ts";
import { fastCrypto } from "./fast_crypto.ts";
import { gaugeMeter, watchNode } from "./invariants.ts";
import type { Watch } from "./invariants.ts";
import { Symmetry } from "./symmetry.ts";
import { createVirtualClock } from "./virtual_clock.ts";

/** How a simulation is made. */
export interface SimulationOptions {
  /** Decides everything that is left to chance. */
  readonly seed: number;
  /** How many nodes; they join through the first one. */
  readonly nodes: number;
  /**
   * One-way latency of each packet, ms, uniform between the two. Packets of different connections
   * overtake each other by it. Of one connection they arrive once and in order, as what QUIC hands
   * over does: what the network below reorders, doubles or loses there shows as delay alone.
   * @default [1, 20]
   */
  readonly latencyMs?: readonly [number, number];
  /** Chance that a packet is lost and sent again, 0.99 at most. @default 0 */
  readonly loss?: number;
  /** `real` signs with Ed25519; `fast` with a stand-in without security. @default "fast" */
  readonly crypto?: "real" | "fast";
  /** Further options of every node, or of the node with this number. */
  readonly options?: Partial<NodeOptions> | ((index: number) => Partial<NodeOptions>);
  /** How far the wall clock of the node with this number is ahead, ms. @default 0 */
  readonly wallOffsetMs?: (index: number) => number;
  /** Gets the log lines of all nodes. */
  readonly logger?: (node: string, level: string, message: string) => void;
}

/** A simulated cluster. */
export interface Simulation {
  /** A node by its number. It changes with `restart`. @throws RangeError */
  node(index: number): Node;
  /** All nodes. */
  readonly nodes: readonly Node[];
  /** Virtual milliseconds since the start. */
  now(): number;
  /**
   * Lets time pass.
   *
   * @throws Error naming the seed when something does not hold that must on every node after every
   * step: the bounds of the views, nobody twice in them, one event for each transition, the caches
   * of broadcast within their caps; and, after a minute without faults, no edge with one end only
   */
  run(options: { forMs: number }): Promise<void>;
  /** Lets time pass until the promise settles, an hour at most; gives its result. */
  run<T>(promise: Promise<T>): Promise<T>;
  /** Lets time pass until the condition holds. @throws Error after `withinMs` (10 minutes) */
  until(condition: () => boolean, options?: { withinMs?: number }): Promise<void>;
  /** Nothing passes between the two groups any more. */
  partition(a: readonly Node[], b: readonly Node[]): void;
  /** Nothing passes from one to the other; the way back stays open. */
  cut(from: Node, to: Node): void;
  /**
   * The connections from one to the other carry nothing that way any more, and neither is told; new
   * ones work.
   */
  halfOpen(from: Node, to: Node): void;
  /** Everything passes again. */
  heal(): void;
  /** The node is gone, and nobody is told. */
  crash(node: Node): void;
  /** The node stands still for a while: its timers fire late, what is sent to it waits. */
  stall(node: Node, forMs: number): void;
  /** The node crashes and comes back under its name, with what it had on disk. */
  restart(node: Node): Promise<Node>;
  /**
   * A hash of every packet that arrived so far, to the byte, and when: equal for equal seeds and
   * equal code, on every runtime. Code of your own that counts on the order in which promises
   * settle can tell runtimes apart: `Promise.finally` and `Promise.try` take fewer turns on Bun.
   */
  trace(): string;
  /** Closes every node. */
  close(): Promise<void>;
}

const latency = v.pipe(v.number(), v.finite(), v.minValue(0));
const callback = v.function();
const schema = v.strictObject({
  seed: v.pipe(v.number(), v.safeInteger()),
  nodes: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  latencyMs: v.optional(v.pipe(
    v.tuple([latency, latency]),
    v.check(([least, most]) => least <= most, "must be [least, most]"),
  )),
  // Of a network that loses everything nothing ever comes.
  loss: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(0.99))),
  crypto: v.optional(v.picklist(["real", "fast"])),
  options: v.optional(v.union([callback, v.record(v.string(), v.unknown())])),
  wallOffsetMs: v.optional(callback),
  logger: v.optional(callback),
});

const LIMIT_MS = 3_600_000;
const STEP_MS = 100;
/** An edge may be one-sided for so long in quiet, ms, and for so many of the longest latencies. */
const ONE_SIDED_MS = 60_000;
const ONE_SIDED_LATENCIES = 50;

interface Member {
  node: Node;
  host: MemoryHost;
  readonly files: SecretFiles;
  readonly disk: DurableStore;
  readonly watch: Watch;
  readonly stop: () => void;
  readonly pause: (forMs: number) => void;
  isGone: boolean;
}

/**
 * Starts a simulated cluster; it is still joining when this returns.
 *
 * @throws ConfigError with the path of the option that is unknown, ill-typed or impossible
 */
export async function createSimulation(options: SimulationOptions): Promise<Simulation> {
  checkConfig(schema, options);
  const { seed, latencyMs = [1, 20], loss = 0, logger } = options;
  const touched = new Set<string>();
  const time = createVirtualClock(() => {
    for (const host of touched) check(host);
    touched.clear();
    checkSymmetry();
  });
  const symmetry = new Symmetry();
  const oneSidedMs = ONE_SIDED_MS + ONE_SIDED_LATENCIES * latencyMs[1] / (1 - loss);
  // Whether a cut lasts; until when a node stands still.
  let isCut = false;
  let stalledUntil = 0;
  let trace = syncHashes.sha256(utf8(`seed ${seed}`));
  const network = createMemoryNetwork({
    clock: time.view().clock,
    random: seededRandom(seed),
    latencyMs,
    loss,
    onPacket(from, to, what, bytes) {
      touched.add(to);
      trace = syncHashes.sha256(
        concat([trace, utf8(`${time.now()} ${from} ${to} ${what}`), bytes]),
      );
    },
  });
  const members: Member[] = [];
  const byHost = new Map<string, Member>();
  let lives = 0;

  const check = (host: string) => {
    const member = byHost.get(host);
    if (member === undefined || member.isGone) return;
    try {
      member.watch.check();
    } catch (cause) {
      throw broken(messageOf(cause), cause);
    }
  };
  const broken = (what: string, cause?: unknown) =>
    new Error(`seed ${seed}, at ${time.now()} ms: ${what}`, { cause });
  const checkSymmetry = () => {
    const now = time.now();
    if (isCut || stalledUntil > now) return symmetry.disturbed(now);
    const ms = symmetry.oneSidedMs(now);
    if (ms > oneSidedMs) throw broken(`${symmetry.oldest} is one-sided, in quiet for ${ms} ms`);
  };
  // Until a promise settles, which may be by an error of its own; others tell the seed.
  const settled = async <T>(promise: Promise<T>): Promise<T> => {
    let own: { error: unknown } | undefined;
    promise.then(undefined, (error) => void (own = { error }));
    try {
      return await time.until(promise, LIMIT_MS);
    } catch (cause) {
      if (own !== undefined && own.error === cause) throw cause;
      if (messageOf(cause).startsWith("seed ")) throw cause;
      throw broken(messageOf(cause), cause);
    }
  };

  const start = async (
    index: number,
    files: SecretFiles,
    disk: DurableStore,
  ): Promise<Member> => {
    const name = `n${index}`;
    const host = network.host(`${name}.${lives}`);
    const random = seededRandom(seed * 1_000_003 + ++lives);
    const { clock, stop, pause } = time.view({
      wallOffsetMs: options.wallOffsetMs?.(index) ?? 0,
      onTimer: () => void touched.add(host.name),
    });
    const crypto: Crypto = options.crypto === "real" ? nobleCrypto(random) : fastCrypto(random);
    const log: Logger = {
      log: (level, message) => logger?.(name, level, message),
    };
    const more = typeof options.options === "function"
      ? options.options(index)
      : options.options ?? {};
    const meter = gaugeMeter(more.meter ?? memoryMeter());
    const node = await settled(
      createNode({
        name: `${name}@sim`,
        listen: [`mem://${name}:${lives}`],
        contactNodes: index === 0 ? [] : [(members[0] as Member).node.addresses[0] as string],
        cluster: "simulation",
        store: disk,
        ...more,
        transports: [host.transport],
        clock,
        random,
        crypto,
        storage: files,
        logger: log,
        meter,
      }),
    );
    const watch = watchNode(node, meter, more.membership);
    for (const peer of node.membership.activeView()) symmetry.up(node.name, peer, time.now());
    node.membership.on((event) => {
      if (event.type === "peerUp") symmetry.up(node.name, event.node, time.now());
      else if (event.type === "peerDown") symmetry.down(node.name, event.node, time.now());
    });
    const member: Member = { node, host, files, disk, watch, stop, pause, isGone: false };
    byHost.set(host.name, member);
    return member;
  };

  for (let index = 0; index < options.nodes; index++) {
    members.push(await start(index, durable(memoryFiles()), memoryStore()));
  }

  const memberOf = (node: Node): Member => {
    const member = members.find((candidate) => candidate.node === node);
    if (member === undefined) {
      throw new Error(`${node.name} is not a living node of this simulation`);
    }
    return member;
  };
  const hosts = (nodes: readonly Node[]) => nodes.map((node) => memberOf(node).host);
  const crash = (member: Member) => {
    member.isGone = true;
    byHost.delete(member.host.name);
    symmetry.gone(member.node.name, time.now());
    member.host.crash();
    member.stop();
  };

  const simulation: Simulation = {
    node(index) {
      const member = members[index];
      if (member !== undefined) return member.node;
      throw new RangeError(`there is no node ${index}: they are 0 to ${members.length - 1}`);
    },
    get nodes() {
      return members.map(({ node }) => node);
    },
    now: () => time.now(),
    run<T>(what: Promise<T> | { forMs: number }) {
      return "forMs" in what ? time.run(what.forMs) as Promise<T> : settled(what);
    },
    async until(condition, { withinMs = 600_000 } = {}) {
      const end = time.now() + withinMs;
      while (!condition()) {
        if (time.now() >= end) {
          throw broken(`did not hold within ${withinMs} ms of virtual time`);
        }
        await time.run(STEP_MS);
      }
    },
    partition(a, b) {
      isCut = true;
      network.partition(hosts(a), hosts(b));
    },
    cut(from, to) {
      isCut = true;
      network.cut(memberOf(from).host, memberOf(to).host);
    },
    halfOpen(from, to) {
      symmetry.disturbed(time.now());
      network.halfOpen(memberOf(from).host, memberOf(to).host);
    },
    heal() {
      isCut = false;
      symmetry.disturbed(time.now());
      network.heal();
    },
    crash: (node) => crash(memberOf(node)),
    stall(node, forMs) {
      const { host, pause } = memberOf(node);
      host.stall(forMs);
      stalledUntil = Math.max(stalledUntil, time.now() + forMs);
      pause(forMs);
    },
    async restart(node) {
      const member = memberOf(node);
      const index = members.indexOf(member);
      if (!member.isGone) crash(member);
      const next = await start(index, member.files, member.disk);
      members[index] = next;
      return next.node;
    },
    trace: () => encodeHex(trace),
    async close() {
      const open = members.filter(({ isGone }) => !isGone);
      await settled(Promise.all(open.map(({ node }) => node.close())));
    },
  };
  return simulation;
}

// Simulated disks outlive a simulated crash.
function durable(files: SecretFiles): SecretFiles {
  return { ...files, durable: true };
}
