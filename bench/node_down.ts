/** How long a cluster takes to know that one of its nodes is gone. */
import type { RuntimeName } from "../test/processes.ts";
import type { Children } from "./children.ts";

/** One survivor of one kill. */
export interface DownFigures {
  /** The runtime of the node that was killed. */
  readonly killed: RuntimeName;
  /** The runtime of the node that was told. */
  readonly survivor: RuntimeName;
  /** From the SIGKILL to `nodeDown`, milliseconds. */
  readonly afterMs: number;
}

const MEMBERS = 3;

/**
 * Kills one of three nodes, which run on `runtimes` in turn: each of them once in a cluster of its
 * own, or only the last when it is to be quick.
 */
export async function measureDown(
  runtimes: readonly RuntimeName[],
  isQuick: boolean,
  children: Children,
): Promise<DownFigures[]> {
  const members = Array.from({ length: MEMBERS }, (_, index) => {
    return runtimes[index % runtimes.length] as RuntimeName;
  });
  const victims = isQuick ? [MEMBERS - 1] : [...members.keys()];
  const figures: DownFigures[] = [];
  for (const victim of victims) {
    figures.push(...await kill(members, victim, children));
    await children.stop();
  }
  return figures;
}

async function kill(
  members: readonly RuntimeName[],
  victim: number,
  children: Children,
): Promise<DownFigures[]> {
  const nodes = [];
  let contact: string | undefined;
  for (const [index, runtime] of members.entries()) {
    const args = [`member${index}`, ...(contact === undefined ? [] : [contact])];
    const program = children.start(runtime, "bench/node_member.ts", args, `member${index}`);
    const [, address = ""] = await program.line(/^ready (\S+)$/);
    contact ??= address;
    nodes.push({ index, runtime, program });
  }
  await Promise.all(nodes.map(({ program }) => program.line(new RegExp(`^members ${MEMBERS}$`))));
  children.tell(`member${victim}: killed`);
  const killedAt = performance.timeOrigin + performance.now();
  const ended = nodes[victim]?.program.kill("SIGKILL");
  const figures = await Promise.all(
    nodes.filter(({ index }) => index !== victim).map(async ({ runtime, program }) => {
      const line = new RegExp(`^down member${victim}@\\S+ ([\\d.]+) `);
      const [, at] = await program.line(line, 120_000);
      const killed = members[victim] as RuntimeName;
      return { killed, survivor: runtime, afterMs: Number(at) - killedAt };
    }),
  );
  await ended;
  return figures;
}
