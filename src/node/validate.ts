import * as v from "valibot";
import { utf8Length } from "../base/bytes.ts";
import { checkConfig } from "../base/check_config.ts";
import { BarrelError, ConfigError } from "../base/errors.ts";
import type { ConnectOptions } from "../link/options.ts";
import { MAX_SHUFFLE_ENTRIES } from "../membership/messages.ts";
import { membershipDefaults } from "../membership/options.ts";
import type { MembershipOptions } from "../membership/options.ts";
import { isAddress } from "../wire/address.ts";
import { MAX_ADDRESSES } from "../wire/limits.ts";
import { isNodeName } from "../wire/node_name.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { NodeOptions } from "./options.ts";

const MIN_COOKIE_BYTES = 16;

const milliseconds = v.pipe(v.number(), v.finite(), v.minValue(1));
const pause = v.pipe(v.number(), v.finite(), v.minValue(0));
const size = (least: number, most: number) =>
  v.pipe(v.number(), v.safeInteger(), v.minValue(least), v.maxValue(most));
const address = v.pipe(
  v.string(),
  v.check((text) => isAddress(text), "must be a URL such as quic://127.0.0.1:9000"),
);
const addresses = v.pipe(v.array(address), v.maxLength(MAX_ADDRESSES));
const schemaLike = v.custom<object>(
  (value) =>
    typeof value === "function" ||
    (typeof value === "object" && value !== null && "~standard" in value),
  "must be a function or a schema (valibot, zod, arktype)",
);
const injected = v.custom<object>(
  (value) => typeof value === "object" && value !== null,
  "must be an object",
);

const mapOptionsSchema = v.strictObject({
  persist: v.optional(v.boolean()),
  ephemeral: v.optional(v.boolean()),
  schema: v.optional(schemaLike),
});

const replicaOptionsSchema = v.strictObject({
  ...mapOptionsSchema.entries,
  name: v.string(),
  merge: v.function(),
});

const schema = v.strictObject({
  name: v.pipe(
    v.string(),
    v.check(
      (text) => isNodeName(text),
      "must look like name@host: letters, digits, . _ - before the @, a host name or an IP behind, " +
        "with brackets around IPv6: name@[::1]",
    ),
  ),
  listen: v.optional(addresses),
  advertise: v.optional(addresses),
  contactNodes: v.optional(v.array(address)),
  dataDir: v.optional(v.pipe(v.string(), v.minLength(1))),
  cluster: v.optional(
    v.pipe(
      v.string(),
      v.check(({ length }) => length >= 1 && length <= 64, "must have 1 to 64 characters"),
    ),
  ),
  cookie: v.optional(
    v.pipe(
      v.string(),
      v.check(
        (text) => utf8Length(text) >= MIN_COOKIE_BYTES,
        `must have ${MIN_COOKIE_BYTES} bytes or more, or be left out`,
      ),
    ),
  ),
  auth: v.optional(v.strictObject({
    trustMode: v.optional(v.picklist(["tofu", "strict"])),
    handshakeTimeoutMs: v.optional(milliseconds),
    cookieOnlyNodes: v.optional(v.array(v.pipe(v.string(), v.minLength(1)))),
  })),
  membership: v.optional(v.strictObject({
    activeSize: v.optional(size(1, 64)),
    passiveSize: v.optional(size(1, 1_000)),
    arwl: v.optional(size(1, 16)),
    prwl: v.optional(size(0, 16)),
    shuffleActive: v.optional(size(0, MAX_SHUFFLE_ENTRIES)),
    shufflePassive: v.optional(size(0, MAX_SHUFFLE_ENTRIES)),
    shuffleIntervalMs: v.optional(milliseconds),
  })),
  links: v.optional(v.strictObject({
    idleAfterMs: v.optional(milliseconds),
    idleSweepMs: v.optional(milliseconds),
    dataStreams: v.optional(size(1, 64)),
    highWaterMark: v.optional(size(1, 2 ** 31)),
    maxBufferedBytes: v.optional(size(1, 2 ** 40)),
  })),
  liveness: v.optional(v.strictObject({
    suspicionMs: v.optional(milliseconds),
    silenceMs: v.optional(milliseconds),
    partitionHoldMs: v.optional(pause),
    forgetAfterMs: v.optional(milliseconds),
  })),
  limits: v.optional(v.strictObject({
    maxMessageBytes: v.optional(size(1024, 2 ** 30)),
    maxDriftMs: v.optional(milliseconds),
    mailboxHighWater: v.optional(size(1, 2 ** 31)),
  })),
  maps: v.optional(v.record(
    v.string(),
    mapOptionsSchema,
  )),
  transports: v.optional(v.array(injected)),
  clock: v.optional(injected),
  random: v.optional(injected),
  crypto: v.optional(injected),
  storage: v.optional(injected),
  store: v.optional(injected),
  logger: v.optional(injected),
  meter: v.optional(injected),
});

const connectOptionsSchema = v.optional(v.strictObject({
  address: v.optional(address),
  datagrams: v.optional(v.function()),
}));

/**
 * Checks the options of a node.
 *
 * @throws ConfigError with the path of the first option that is unknown, ill-typed or impossible
 */
export function validateOptions(options: unknown): NodeOptions {
  if (typeof options !== "object" || options === null) {
    throw new ConfigError("options", 'are missing: createNode({ name: "a@127.0.0.1", … })');
  }
  checkConfig(schema, options);
  const valid = options as NodeOptions;
  if ((valid.auth?.cookieOnlyNodes?.length ?? 0) > 0 && valid.cookie === undefined) {
    throw new ConfigError("auth.cookieOnlyNodes", "needs a cookie: without one it admits anybody");
  }
  refuseAbove("liveness", valid.liveness, "suspicionMs", "silenceMs");
  refuseAbove("links", valid.links, "highWaterMark", "maxBufferedBytes");
  refuseAbove("membership", valid.membership, "prwl", "arwl");
  refuseLongShuffles(valid.membership);
  return valid;
}

// What does not fit into a frame would be cut off in silence.
function refuseLongShuffles(chosen: Partial<MembershipOptions> = {}): void {
  const { shuffleActive, shufflePassive } = { ...membershipDefaults, ...chosen };
  if (shuffleActive + shufflePassive <= MAX_SHUFFLE_ENTRIES) return;
  const isActive = chosen.shufflePassive === undefined;
  const [name, other] = isActive
    ? ["shuffleActive", "shufflePassive"]
    : ["shufflePassive", "shuffleActive"];
  const sum = `${shuffleActive} and ${shufflePassive}`;
  throw new ConfigError(
    `membership.${name}`,
    `is at most ${MAX_SHUFFLE_ENTRIES} together with membership.${other}, not ${sum}`,
  );
}

// Two that were chosen together and cannot be meant so.
function refuseAbove<K extends string>(
  group: string,
  chosen: Readonly<Partial<Record<K, number>>> | undefined,
  name: K,
  limitName: K,
): void {
  const value = chosen?.[name], limit = chosen?.[limitName];
  if (value === undefined || limit === undefined || value <= limit) return;
  throw new ConfigError(
    `${group}.${name}`,
    `must be at most ${group}.${limitName}, ${limit}, not ${value}`,
  );
}

/** A topic of the user's is told apart from the library's by a prefix. */
const MAX_TOPIC_BYTES = 250;

/** Checks the name of a node. @throws ConfigError */
export function validateNodeName(name: unknown): NodeName {
  if (isNodeName(name)) return name;
  const shown = typeof name === "string" ? JSON.stringify(name.slice(0, 80)) : typeof name;
  throw new ConfigError("name", `${shown} is not a node name; write name@host`);
}

/** Checks the topic of a broadcast. @throws BarrelError `broadcast` */
export function validateTopic(topic: unknown): void {
  const bytes = typeof topic === "string" ? utf8Length(topic) : 0;
  if (bytes >= 1 && bytes <= MAX_TOPIC_BYTES) return;
  throw new BarrelError("broadcast", `a topic is a string of 1 to ${MAX_TOPIC_BYTES} bytes`);
}

/** Checks the address of a contact. @throws ConfigError */
export function validateContact(contact: unknown): string {
  checkConfig(v.object({ contact: address }), { contact });
  return contact as string;
}

/** Checks the options of a map. @throws ConfigError */
export function validateMapOptions(options: unknown): void {
  checkConfig(v.optional(mapOptionsSchema), options);
}

/** Checks the options of a replica. @throws ConfigError */
export function validateReplicaOptions(options: unknown): void {
  checkConfig(replicaOptionsSchema, options);
}

/** Checks what `links.setConnectOptions` is given. @throws ConfigError */
export function validateConnectOptions(options: unknown): ConnectOptions | undefined {
  checkConfig(connectOptionsSchema, options);
  return options as ConnectOptions | undefined;
}
