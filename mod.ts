/**
 * Barrel P2P: Erlang-style clusters for Deno, Bun and Node. Any actor talks to any actor on any
 * machine over QUIC; peers prove who they are with Ed25519; services are found through a
 * replicated registry; there is no server to run.
 *
 * @example
 * ```ts
 * import { createNode } from "@barrel/p2p";
 *
 * const node = await createNode({ name: "node1@127.0.0.1", listen: ["quic://127.0.0.1:0"] });
 * const echo = node.spawn(async (self) => {
 *   for await (const message of self.mailbox) console.log(message);
 * });
 * echo.send("hello");
 * await node.close();
 * ```
 *
 * @module
 */
export { createNode } from "./src/node/node.ts";
export type { Identity, RotationResult } from "./src/node/rotation.ts";
export type { MemberInfo, Membership, Node } from "./src/node/node.ts";
export type { NodeEvent } from "./src/node/events.ts";
export type { AuthOptions, LimitOptions, NodeOptions } from "./src/node/options.ts";

export { defineServer } from "./src/actor/gen_server.ts";
export type {
  AnyServer,
  CallOptions,
  Deferred,
  InitArguments,
  InitContext,
  ServerClient,
  ServerContext,
  ServerDefinition,
} from "./src/actor/gen_server.ts";
export {
  CallTimeoutError,
  NodeDownError,
  NoProcedureError,
  NoProcessError,
  RemoteError,
} from "./src/actor/errors.ts";
export type { StartOptions } from "./src/actor/calls.ts";
export type { ProcessKind } from "./src/actor/process.ts";
export type { Processes, ProcessInfo, ProcessSummary, TraceEvent } from "./src/actor/processes.ts";
export type { Rpc, RpcClient, RpcResultOf } from "./src/actor/rpc.ts";
export type { RpcResult } from "./src/actor/rpc_result.ts";
export type { Procedures, RpcContext } from "./src/actor/rpc_server.ts";
export type { ChildStatus, Intensity, Restart, Strategy } from "./src/actor/supervision.ts";
export type { ChildInfo, Supervisor } from "./src/actor/supervisor.ts";
export { child } from "./src/actor/supervisor_spec.ts";
export type { ChildSpec, ChildStart, SupervisorSpec } from "./src/actor/supervisor_spec.ts";
export { Down, Exit, NodeDown, Timeout } from "./src/actor/messages.ts";
export type { ExitReason, SystemMessage } from "./src/actor/messages.ts";
export type { ReceiveOptions } from "./src/actor/mailbox.ts";
export type { Behaviour, Self } from "./src/actor/process.ts";
export type { SpawnOptions } from "./src/actor/system.ts";

export { StreamError } from "./src/stream/errors.ts";
export type { StreamFailure } from "./src/stream/errors.ts";
export type { AcceptOptions, OpenOptions, StreamInfo, Streams } from "./src/stream/streams.ts";
export type { TaggedStream } from "./src/stream/tagged_stream.ts";
export type { Maps } from "./src/map/maps.ts";
export type { Merged, MergedEvent, MergedOptions, MergedRow, Replicas } from "./src/map/merged.ts";
export type { MapEvent, SharedMap } from "./src/map/map.ts";
export type {
  DeclaredMapOptions,
  MapOptions,
  StandardSchema,
  Validator,
} from "./src/map/options.ts";
export type { DurableStore, Write } from "./src/storage/contract.ts";
export { memoryStore } from "./src/storage/memory.ts";

export type { Instance, Registry, RegistryEvent } from "./src/registry/registry.ts";

export {
  BarrelError,
  ClosedError,
  ConfigError,
  ConflictError,
  EncodeError,
  HandshakeError,
  OverloadedError,
  ProtocolError,
  StorageError,
  TimeoutError,
  TransportError,
} from "./src/base/errors.ts";
export type { Bytes } from "./src/base/bytes.ts";
export type { Clock, Timer } from "./src/base/clock.ts";
export type { Crypto, KeyPair } from "./src/base/crypto.ts";
export type { Stamp } from "./src/crdt/hlc.ts";
export type { EventsOptions, Overflow } from "./src/base/events.ts";
export type { Logger, LogLevel } from "./src/base/logger.ts";
export type { Random } from "./src/base/random.ts";
export type { SecretFiles } from "./src/base/secret_files.ts";
export type { Pin, TrustMode, TrustStore, TrustVerdict } from "./src/identity/trust.ts";
export type { LinkInfo, LinkStats } from "./src/link/link_info.ts";
export type { ConnectOptions, LinkSettings } from "./src/link/options.ts";
export type { PeerDownReason } from "./src/membership/events.ts";
export type { MembershipOptions } from "./src/membership/options.ts";
export type { Labels, MemoryMeter, Meter, MetricsSnapshot } from "./src/metrics/meter.ts";
export type { LivenessOptions } from "./src/roster/options.ts";
export type { DownReason } from "./src/roster/roster.ts";
export type {
  CloseInfo,
  Connection,
  ConnectionOptions,
  ConnectionStats,
  DatagramTransport,
  DialOptions,
  Listener,
  ListenOptions,
  Pipe,
  TlsIdentity,
  Transport,
} from "./src/transport/contract.ts";
export type { NodeName } from "./src/wire/node_name.ts";
export { Pid } from "./src/wire/pid.ts";
export type { PidSender } from "./src/wire/pid.ts";
export { Ref } from "./src/wire/ref.ts";
