/** The part `links`: what authentication, framing and the table cost over the bare transport. */
import type { RuntimeName } from "../test/processes.ts";
import type { Children } from "./children.ts";
import type { LinkFigures } from "./links_peer.ts";
import type { Options, Pair } from "./options.ts";
import { measureRaw } from "./raw.ts";
import { table, whole } from "./table.ts";
import type { UdpFigures } from "./udp.ts";

interface Figures {
  readonly links: LinkFigures;
  readonly udp: UdpFigures;
}

/** Measures links on every pair; prints the figures. */
export async function benchLinks(
  { pairs, isQuick, json }: Options,
  children: Children,
): Promise<void> {
  const figures = new Map<string, Figures>();
  for (const pair of pairs) {
    try {
      figures.set(pair.pair, await measurePair(pair, isQuick, children));
    } catch (error) {
      // What the client said last, which is in its message, is the step.
      throw new Error(`${pair.pair}: ${(error as Error).message}`, { cause: error });
    }
  }
  if (json) console.log(JSON.stringify({ links: Object.fromEntries(figures) }, null, 2));
  else print(figures);
}

async function measurePair(
  { pair, client, server }: Pair,
  isQuick: boolean,
  children: Children,
): Promise<Figures> {
  const raw = await measureRaw(client, server, { seconds: isQuick ? 0.05 : 1 });
  const udp = await measureUdp(client, server, isQuick, children);
  const bare = children.start(server, "bench/raw_server.ts", ["quic"], `${pair}: bare server`);
  const [, bareAddress = ""] = await bare.line(/^listening (\S+)$/);
  const peer = children.start(server, "bench/links_server.ts", [], `${pair}: server`);
  const [, name = "", address = ""] = await peer.line(/^ready (\S+) (\S+)$/);
  const measuring = children.start(
    client,
    "bench/links_client.ts",
    [bareAddress, name, address, isQuick ? "quick" : "thorough"],
    `${pair}: client`,
    (line) => /^step (.*)$/.exec(line)?.[1],
  );
  const [, text = ""] = await measuring.line(/^figures (.*)$/, 300_000);
  await children.stop();
  const { echoMedianUs, bulkMiBPerSecond, messagesPerSecond, batchedPerSecond } = raw;
  const links = JSON.parse(text) as LinkFigures;
  return {
    links: {
      ...links,
      echoUs: echoMedianUs,
      bulkMiBPerSecond,
      messagesPerSecond,
      batchedPerSecond,
    },
    udp,
  };
}

async function measureUdp(
  client: RuntimeName,
  server: RuntimeName,
  isQuick: boolean,
  children: Children,
): Promise<UdpFigures> {
  const peer = children.start(server, "bench/udp.ts", [], "udp: server");
  const [, port = ""] = await peer.line(/^listening (\d+)$/);
  const measuring = children.start(
    client,
    "bench/udp.ts",
    [port, isQuick ? "50" : "1000"],
    "udp: client",
  );
  const [, text = ""] = await measuring.line(/^figures (.*)$/, 60_000);
  await children.stop();
  return JSON.parse(text) as UdpFigures;
}

function print(figures: ReadonlyMap<string, Figures>): void {
  const rows = (cells: (all: Figures) => string[]) =>
    [...figures].map(([pair, all]) => [pair, ...cells(all)]);
  const ratio = (value: number, floor: number) => (value / floor).toFixed(2);
  console.log(table(
    ["connects", "TLS ms", "link ms", "auth ms", "first ms", "TLS/s", "links/s", "ratio"],
    rows(({ links }) => [
      links.tlsMs.toFixed(1),
      links.connectMs.toFixed(1),
      (links.connectMs - links.tlsMs).toFixed(1),
      links.firstContactMs.toFixed(1),
      whole(links.tlsPerSecond),
      whole(links.connectsPerSecond),
      ratio(links.connectsPerSecond, links.tlsPerSecond),
    ]),
  ));
  console.log(table(
    ["echo, 64 B", "UDP µs", "QUIC µs", "link µs", "ratio", "beside 10 MiB µs", "p99"],
    rows(({ links, udp }) => [
      whole(udp.echoMedianUs),
      whole(links.echoUs),
      whole(links.linkEchoUs),
      ratio(links.linkEchoUs, links.echoUs),
      whole(links.busyEchoUs),
      whole(links.busyEchoP99Us),
    ]),
  ));
  console.log(table(
    ["one way", "UDP MiB/s", "QUIC MiB/s", "link MiB/s", "ratio", "QUIC msg/s", "link msg/s"],
    rows(({ links, udp }) => [
      whole(udp.bulkMiBPerSecond),
      whole(links.bulkMiBPerSecond),
      whole(links.linkBulkMiBPerSecond),
      ratio(links.linkBulkMiBPerSecond, links.bulkMiBPerSecond),
      whole(links.batchedPerSecond),
      whole(links.linkMessagesPerSecond),
    ]),
  ));
  console.log(table(
    ["at rest, server", "connection kB", "link kB", "more kB"],
    rows(({ links }) => [
      whole(links.connectionKb),
      whole(links.linkKb),
      whole(links.linkKb - links.connectionKb),
    ]),
  ));
}
