/** Two machines on one: network namespaces with a wire between them that can be cut in silence. */
import { execFile } from "node:child_process";
import process from "node:process";
import { promisify } from "node:util";
import type { Place } from "./members.ts";

const run = promisify(execFile);
const ip = (...args: string[]) => run("ip", args);

/** The two places, and the cut between them. */
export interface Wire {
  readonly places: readonly [Place, Place];
  /** From now on nothing passes, and nobody is told. */
  cut(): Promise<void>;
  mend(): Promise<void>;
  remove(): Promise<void>;
}

const HOSTS = ["10.77.0.1", "10.77.0.2"] as const;

/**
 * Makes the namespaces; needs root and iproute2.
 *
 * @throws Error that says what is missing
 */
export async function makeWire(): Promise<Wire> {
  const names = [`barrel-a-${process.pid}`, `barrel-b-${process.pid}`] as const;
  const devices = ["wire0", "wire1"] as const;
  try {
    for (const name of names) {
      await ip("netns", "add", name);
      await ip("-n", name, "link", "set", "lo", "up");
    }
  } catch (error) {
    throw new Error(`cannot make network namespaces (root and iproute2 are needed): ${error}`);
  }
  await ip(
    ...["link", "add", devices[0], "netns", names[0], "type", "veth"],
    ...["peer", "name", devices[1], "netns", names[1]],
  );
  for (const side of [0, 1] as const) {
    await ip("-n", names[side], "address", "add", `${HOSTS[side]}/24`, "dev", devices[side]);
    await ip("-n", names[side], "link", "set", devices[side], "up");
  }
  // Packets to a neighbour of the wrong hardware address leave, and are taken by nobody.
  const neighbour = async (side: 0 | 1, ...what: string[]) => {
    const other = HOSTS[1 - side] as string;
    await ip("-n", names[side], "neigh", "replace", other, "dev", devices[side], ...what);
  };
  return {
    places: [
      { host: HOSTS[0], namespace: names[0] },
      { host: HOSTS[1], namespace: names[1] },
    ],
    async cut() {
      const nobody = ["lladdr", "02:00:00:00:00:99", "nud", "permanent"];
      await Promise.all([neighbour(0, ...nobody), neighbour(1, ...nobody)]);
    },
    async mend() {
      for (const side of [0, 1] as const) {
        const other = HOSTS[1 - side] as string;
        await ip("-n", names[side], "neigh", "del", other, "dev", devices[side]);
      }
    },
    async remove() {
      for (const name of names) await ip("netns", "del", name).catch(() => {});
    },
  };
}
