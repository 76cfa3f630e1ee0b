/**
 * The measuring end of the links' measurement: `links_client.ts RAW_ADDRESS LINK_NAME LINK_ADDRESS
 * isQuick`. Prints a line for each step and the figures as JSON.
 */
import process from "node:process";
import type { Bytes } from "../src/base/bytes.ts";
import type { Foundation } from "../src/node/foundation.ts";
import type { Connection } from "../src/transport/contract.ts";
import { FrameType } from "../src/wire/frame_types.ts";
import type { NodeName } from "../src/wire/node_name.ts";
import { Ask, startLinks } from "./links_peer.ts";
import type { LinkFigures } from "./links_peer.ts";
import { endWithParent } from "./node_peer.ts";
import { quantile } from "./quantile.ts";
import { MEMORY, rawOptions, transportNamed } from "./raw_transport.ts";

endWithParent();
const [, , rawAddress = "", server = "" as NodeName, linkAddress = "", quick = ""] = process.argv;
const isQuick = quick === "quick";
const CONNECTS = isQuick ? 4 : 40;
const HELD = isQuick ? 4 : 150;
/** Connections before that: what a process needs once is not theirs. */
const WARM_UP = HELD / 2;
/** How long anything may take that the server is asked for, on a machine with much other work. */
const ANSWER_MS = 60_000;
const RATE_MS = isQuick ? 50 : 1_500;
const ECHOES = isQuick ? 50 : 3_000;
const NOTHING = new Uint8Array(0);
const LARGE = 10 * 2 ** 20;

const [transport] = await transportNamed("quic");
// Hundreds of dials in turn must not make an idle connection look dead.
const rawDialOptions = { ...await rawOptions(), timeoutMs: ANSWER_MS, idleTimeoutMs: ANSWER_MS };
const dialRaw = () => transport.dial(rawAddress, rawDialOptions);

type Figures = Omit<
  LinkFigures,
  "echoUs" | "bulkMiBPerSecond" | "messagesPerSecond" | "batchedPerSecond"
>;
console.log(`figures ${JSON.stringify(await measure())}`);
process.exit();

async function measure(): Promise<Figures> {
  // First, as a process that has done other work has room that was freed.
  console.log("step memory of resting connections");
  const connectionKb = await memoryOfConnections();
  const linkKb = await memoryOfLinks();

  console.log("step connects");
  const first = await startLinks([]);
  const firstAt = performance.now();
  const { publicKey } = await first.links.connectAddress(linkAddress);
  const firstContactMs = performance.now() - firstAt;
  const tls: number[] = [], authenticated: number[] = [];
  const connectLink = async () => {
    const { connection } = await first.connector.dial(linkAddress, { publicKey });
    connection.close(1, "measured");
    await connection.closed;
  };
  const connectRaw = async () => {
    const connection = await dialRaw();
    connection.close(1, "measured");
    await connection.closed;
  };
  for (let i = -3; i < CONNECTS; i++) {
    const rawMs = await timed(connectRaw), linkMs = await timed(connectLink);
    if (i < 0) continue;
    tls.push(rawMs);
    authenticated.push(linkMs);
  }
  const tlsPerSecond = await rateOf(connectRaw);
  const connectsPerSecond = await rateOf(connectLink);

  console.log("step echoes, messages, bulk");
  const talk = conversation(first);
  const quiet = await talk.echoes(ECHOES);
  const linkMessagesPerSecond = await talk.rate(100);
  const linkBulk = await talk.rate(2 ** 20);
  const busy = await talk.whileBusy(() => talk.echoes(ECHOES / 3));
  return {
    tlsMs: quantile(tls, 0.5),
    connectMs: quantile(authenticated, 0.5),
    firstContactMs,
    tlsPerSecond,
    connectsPerSecond,
    connectionKb,
    linkKb,
    linkEchoUs: quantile(quiet, 0.5),
    busyEchoUs: quantile(busy, 0.5),
    busyEchoP99Us: quantile(busy, 0.99),
    linkBulkMiBPerSecond: linkBulk,
    linkMessagesPerSecond,
  };
}

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function rateOf(connect: () => Promise<void>): Promise<number> {
  const start = performance.now();
  let count = 0;
  await Promise.all(Array.from({ length: 8 }, async () => {
    while (performance.now() < start + RATE_MS) {
      await connect();
      count++;
    }
  }));
  return count / (performance.now() - start) * 1000;
}

async function memoryOfConnections(): Promise<number> {
  // Over a connection of its own each time: whatever happened to others while many were dialled.
  const ask = async () => {
    const connection = await dialRaw();
    const pipe = await connection.openPipe("bidirectional");
    const text = new Promise<string>((resolve) => {
      pipe.onData = (chunk) => resolve(new TextDecoder().decode(chunk));
    });
    pipe.write(Uint8Array.of(MEMORY));
    const lost = connection.closed.then(({ reason }) => reason);
    const rss = Number(await answered(text, lost, "the memory of the bare server"));
    pipe.destroy();
    connection.close(1, "measured");
    return rss;
  };
  const held: Connection[] = [];
  let lost = 0;
  const hold = async () => {
    const connection = await dialRaw();
    held.push(connection);
    void connection.closed.then(() => lost++);
  };
  for (let i = 0; i < WARM_UP; i++) await hold();
  const before = await ask();
  for (let i = 0; i < HELD; i++) await hold();
  const after = await ask();
  checkHeld(lost, "connections");
  for (const connection of held) connection.close(1, "measured");
  return (after - before) / HELD / 1000;
}

async function memoryOfLinks(): Promise<number> {
  const ask = async () => {
    const asking = await startLinks([]);
    const rss = await conversation(asking).number(Ask.MEMORY);
    await asking.links.close();
    return rss;
  };
  const held: Foundation[] = [];
  let lost = 0;
  const hold = async () => {
    const node = await startLinks([]);
    node.links.on(({ type }) => void (type === "linkDown" && lost++));
    await node.links.connectAddress(linkAddress);
    held.push(node);
  };
  for (let i = 0; i < WARM_UP; i++) await hold();
  const before = await ask();
  for (let i = 0; i < HELD; i++) await hold();
  const after = await ask();
  checkHeld(lost, "links");
  await Promise.all(held.map(({ links }) => links.close()));
  return (after - before) / HELD / 1000;
}

/** What is no longer held takes no memory: the figure would be too good. */
function checkHeld(lost: number, what: string): void {
  if (lost > 0) throw new Error(`${lost} ${what} that were to rest were lost meanwhile`);
}

/** An answer of the server, unless what it comes over is lost before, or it takes too long. */
async function answered<T>(answer: Promise<T>, lost: Promise<string>, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${ANSWER_MS} ms: ${what}`)), ANSWER_MS);
  });
  const gone = lost.then((why) => {
    throw new Error(`the connection was lost (${why}): ${what}`);
  });
  // It ends some time, whoever won.
  gone.catch(() => {});
  try {
    return await Promise.race([answer, gone, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Signals to the server and what it answers. */
function conversation({ links }: Foundation) {
  let onAnswer: ((body: Bytes) => void) | undefined;
  links.signals.onSignal = (_type, body) => onAnswer?.(body);
  const lost = new Promise<string>((resolve) => {
    links.on((event) => {
      if (event.type === "linkDown") resolve(event.reason);
    });
  });
  const connected = links.peer(server as NodeName) === undefined
    ? links.connectAddress(linkAddress)
    : undefined;
  const send = (key: number, payload: Uint8Array) =>
    links.signals.send(server as NodeName, 0, key, FrameType.SEND, NOTHING, payload);
  const ask = async (payload: Uint8Array): Promise<Bytes> => {
    await connected;
    const answer = new Promise<Bytes>((resolve) => (onAnswer = resolve));
    void send(1, payload);
    return await answer;
  };
  // Of whole steps: a timer for each echo would be measured, too.
  const surely = <T>(what: string, step: () => Promise<T>) => answered(step(), lost, what);
  const askNumber = async (what: number) =>
    Number(new TextDecoder().decode(await ask(Uint8Array.of(what))));
  const talk = {
    async echoes(count: number): Promise<number[]> {
      const payload = new Uint8Array(64);
      payload[0] = Ask.ECHO;
      const times: number[] = [];
      for (let i = 0; i < count; i++) {
        const start = performance.now();
        await ask(payload);
        times.push((performance.now() - start) * 1000);
      }
      return times.slice(Math.floor(count / 10));
    },
    /** Messages a second of `bytes` each, or MiB a second where they are large. */
    async rate(bytes: number): Promise<number> {
      const payload = new Uint8Array(bytes);
      payload[0] = Ask.COUNT;
      const perLook = bytes > 10_000 ? 1 : 64;
      const sendFor = async (ms: number) => {
        for (const end = performance.now() + ms; performance.now() < end;) {
          for (let i = 0; i < perLook; i++) await send(1, payload);
        }
      };
      await sendFor(RATE_MS / 2);
      await askNumber(Ask.TOTAL);
      const start = performance.now();
      await sendFor(RATE_MS);
      const total = await askNumber(Ask.TOTAL);
      const perSecond = total / (performance.now() - start) * 1000;
      return bytes > 10_000 ? perSecond / 2 ** 20 : perSecond / bytes;
    },
  };
  return {
    number: (what: number) => surely(`number ${what} of ${server}`, () => askNumber(what)),
    echoes: (count: number) => surely(`${count} echoes`, () => talk.echoes(count)),
    rate: (bytes: number) => surely(`messages of ${bytes} bytes`, () => talk.rate(bytes)),
    async whileBusy<T>(work: () => Promise<T>): Promise<T> {
      let isBusy = true;
      const large = new Uint8Array(LARGE);
      const flow = (async () => {
        for (let key = 2; isBusy; key++) await send(key % 4 === 1 ? key + 1 : key, large);
      })();
      const result = await work();
      isBusy = false;
      await flow;
      return result;
    },
  };
}
