import type { Child, Report } from "./child.ts";

const RUNTIME_NAMES = { deno: "Deno", bun: "Bun", node: "Node" } as const;

/** Tells the demo in plain words. */
export class Story {
  readonly #start = performance.now();

  begin(nodes: number): void {
    this.#say(`Starting ${nodes} nodes as separate processes, QUIC between them.`);
  }

  started(child: Child, report: Report): void {
    const key = String(report["fingerprint"]).slice(0, 16);
    this.#say(
      `${child.label} runs on ${RUNTIME_NAMES[child.runtime]} at ${report["address"]}, key ${key}…`,
    );
  }

  joined(child: Child, report: Report): void {
    this.#say(`${child.label} has joined; its neighbours: ${names(report["view"])}`);
  }

  registered(child: Child, report: Report): void {
    this.#say(`${child.label} has registered ${report["process"]} as "${report["service"]}"`);
  }

  found(child: Child, report: Report): void {
    const link = report["hadLink"] ? "" : ", without ever having talked to it";
    this.#say(`${child.label} asked the registry and found ${report["process"]}${link}`);
  }

  answered(report: Report): void {
    this.#say(`  sent it "hello, worker"; the answer: "${report["text"]}"`);
  }

  called(report: Report): void {
    this.#say(
      `  called add(1) … add(100) on ${report["where"]}: the sum is ${report["sum"]}; ` +
        `a call takes ${report["medianUs"]} µs there and back (median)`,
    );
  }

  views(child: Child, report: Report): void {
    const count = (report["members"] as unknown[]).length;
    this.#say(
      `${child.label} sees ${count} members; it gossips with ${names(report["active"])}`,
    );
  }

  killed(child: Child): void {
    this.#say(`Killing ${child.label} without warning (SIGKILL).`);
  }

  down(child: Child, report: Report, ms: number): void {
    const seconds = (ms / 1000).toFixed(1);
    this.#say(
      `${child.label} was told after ${seconds} s: ${report["node"]} is down (${report["reason"]})`,
    );
  }

  gone(child: Child, dead: Child): void {
    this.#say(
      `  its monitor fired, and ${dead.label}'s service has left ${child.label}'s registry`,
    );
  }

  kept(): void {
    this.#say("All nodes keep running. Press Ctrl-C to stop them.");
  }

  stopping(): void {
    console.log();
    this.#say("Stopping the nodes.");
  }

  end(): void {
    this.#say("All nodes have left and ended. Done.");
  }

  #say(text: string): void {
    const seconds = ((performance.now() - this.#start) / 1000).toFixed(1).padStart(5);
    console.log(`${seconds} s  ${text}`);
  }
}

function names(nodes: unknown): string {
  const list = (nodes as string[]).map((name) => name.split("@")[0]);
  return list.length === 0 ? "nobody" : list.join(", ");
}
