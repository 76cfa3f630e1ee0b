import { messageOf, TransportError } from "../../../src/base/errors.ts";

/** The part of the quiche binding (`@infisical/quic`) that is used here. */
export interface QuicheBinding {
  readonly MIN_CLIENT_INITIAL_LEN: number;
  readonly Config: {
    withBoringSslCtx(
      verifyPeer: boolean,
      verifyAllowFail: boolean,
      ca: Uint8Array | null,
      key: Uint8Array[] | null,
      cert: Uint8Array[] | null,
      signatureAlgorithms: string | null,
    ): QuicheConfig;
  };
  readonly Connection: {
    connect(
      serverName: string | null,
      scid: Uint8Array,
      local: HostPort,
      remote: HostPort,
      config: QuicheConfig,
    ): QuicheHandle;
    accept(
      scid: Uint8Array,
      odcid: Uint8Array | null,
      local: HostPort,
      remote: HostPort,
      config: QuicheConfig,
    ): QuicheHandle;
  };
  readonly Header: { fromSlice(data: Uint8Array, dcidLength: number): QuicheHeader };
  retry(
    scid: Uint8Array,
    dcid: Uint8Array,
    newScid: Uint8Array,
    token: Uint8Array,
    version: number,
    out: Uint8Array,
  ): number;
  negotiateVersion(scid: Uint8Array, dcid: Uint8Array, out: Uint8Array): number;
  versionIsSupported(version: number): boolean;
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export interface QuicheHeader {
  readonly ty: number;
  readonly version: number;
  readonly dcid: Uint8Array;
  readonly scid: Uint8Array;
  readonly token?: Uint8Array;
}

/** `Header.ty` of an Initial packet. */
export const INITIAL = 0;
/** Directions of `streamShutdown`. */
export const SHUTDOWN_READ = 0;
export const SHUTDOWN_WRITE = 1;

export interface QuicheConfig {
  setApplicationProtos(protocols: string[]): void;
  setMaxIdleTimeout(ms: number): void;
  setMaxRecvUdpPayloadSize(bytes: number): void;
  setMaxSendUdpPayloadSize(bytes: number): void;
  setInitialMaxData(bytes: number): void;
  setInitialMaxStreamDataBidiLocal(bytes: number): void;
  setInitialMaxStreamDataBidiRemote(bytes: number): void;
  setInitialMaxStreamDataUni(bytes: number): void;
  setInitialMaxStreamsBidi(count: number): void;
  setInitialMaxStreamsUni(count: number): void;
  setMaxConnectionWindow(bytes: number): void;
  setMaxStreamWindow(bytes: number): void;
  setActiveConnectionIdLimit(count: number): void;
  enablePacing(enabled: boolean): void;
}

export interface QuicheHandle {
  recv(data: Uint8Array, info: { from: HostPort; to: HostPort }): number;
  send(out: Uint8Array): [number, { from: HostPort; to: HostPort }] | null;
  streamRecv(id: number, out: Uint8Array): [number, boolean] | null;
  streamSend(id: number, data: Uint8Array, fin: boolean): number | null;
  streamShutdown(id: number, direction: number, code: number): void;
  peerStreamsLeftBidi(): number;
  peerStreamsLeftUni(): number;
  isReadable(): boolean;
  readable(): Iterable<number>;
  streamReadable(id: number): boolean;
  timeout(): number | null;
  onTimeout(): void;
  newSourceCid(scid: Uint8Array, resetToken: bigint, retireIfNeeded: boolean): number;
  sourceCidsLeft(): number;
  activeSourceCids(): number;
  retiredScidNext(): Uint8Array | null;
  pathEventNext(): object | null;
  probePath(local: HostPort, remote: HostPort): void;
  migrate(local: HostPort, remote: HostPort): void;
  sendOnPath(
    out: Uint8Array,
    from: HostPort,
    to: HostPort,
  ): [number, { from: HostPort; to: HostPort }] | null;
  isPathValidated(local: HostPort, peer: HostPort): boolean;
  maxSendUdpPayloadSize(): number;
  stats(): { readonly peerDisableActiveMigration: boolean };
  close(isApp: boolean, code: number, reason: Uint8Array): void;
  peerCertChain(): Uint8Array[] | null;
  isEstablished(): boolean;
  isDraining(): boolean;
  isClosed(): boolean;
  isTimedOut(): boolean;
  peerError(): { isApp: boolean; errorCode: number; reason: Uint8Array } | null;
  localError(): { isApp: boolean; errorCode: number; reason: Uint8Array } | null;
  pathStats(): {
    active: boolean;
    localHost: HostPort;
    peerHost: HostPort;
    recv: number;
    rtt: number;
    cwnd: number;
    sentBytes: number;
    recvBytes: number;
    lost: number;
  }[];
  sendAckEliciting(): void;
}

// The package's main module loads a whole QUIC implementation; the binding is all we want.
const MODULE = "@infisical/quic/dist/native/quiche.js";

/** Loads the native package. @throws TransportError `unavailable` with what to install */
export async function loadQuiche(path: string = MODULE): Promise<QuicheBinding> {
  try {
    const module = await import(path) as { default: { default?: QuicheBinding } & QuicheBinding };
    return module.default.default ?? module.default;
  } catch (error) {
    throw new TransportError(
      "unavailable",
      `this Node has no QUIC of its own and the native package is missing ` +
        `(${messageOf(error).split("\n")[0]}); run: npm install @infisical/quic@1.0.8`,
      { cause: error },
    );
  }
}
