import type { Bytes } from "../base/bytes.ts";
import { TransportError } from "../base/errors.ts";
import type { NodeName } from "../wire/node_name.ts";
import { isSameLife } from "./arrival.ts";
import { CloseCode } from "./close_codes.ts";
import type { Authenticated, DialRequest } from "./connector.ts";
import type { Link } from "./link.ts";
import type { ConnectOptions } from "./options.ts";
import type { PeerIdentity } from "./ports.ts";

const NOTHING = new Uint8Array(0);

/** What dialling needs of the table. */
export interface DialingPorts {
  readonly self: PeerIdentity;
  /** Makes an authenticated connection. */
  readonly dial: (address: string, request?: DialRequest) => Promise<Authenticated>;
  /** Where a node can be reached, best first, and its key where it is known. */
  readonly resolve: (
    name: NodeName,
  ) => Promise<{ addresses: readonly string[]; publicKey?: Uint8Array }>;
  readonly connectOptions: (name: NodeName) => ConnectOptions | undefined;
  /** The link to a peer that is in use. */
  readonly live: (name: NodeName) => Link | undefined;
  /** A link to a peer that we dialled and whose pipes do not stand yet. */
  readonly ownPending: (name: NodeName) => Link | undefined;
  /** May refuse a peer by throwing. */
  readonly admit: (authenticated: Authenticated) => Promise<void>;
  /** Makes a link that takes over from the connection `replaces`; nothing is sent yet. */
  readonly begin: (authenticated: Authenticated, replaces: Bytes) => Link;
}

/** Makes links to nodes and addresses. */
export interface Dialing {
  /** Dials a node's addresses one after the other. @throws TransportError, or what the last dial threw */
  byName(name: NodeName): Promise<PeerIdentity>;
  /** Dials an address; whoever is there. @throws what the dial threw */
  byAddress(address: string): Promise<PeerIdentity>;
  /** Makes the new connection to `name` take over from the one called `replaces`. */
  takeOver(
    authenticated: Authenticated,
    address: string,
    name: NodeName,
    replaces: Bytes,
  ): Promise<void>;
  /** A link's pipes stand. */
  ready(link: Link): void;
}

/** Creates what dials for a table. */
export function createDialing(ports: DialingPorts): Dialing {
  const { self, live, connectOptions } = ports;
  const waiting = new Map<Link, (() => void)[]>();

  const byName = async (name: NodeName): Promise<PeerIdentity> => {
    const { addresses, publicKey } = await ports.resolve(name);
    const chosen = connectOptions(name)?.address;
    let failure: unknown = new TransportError(
      "unreachable",
      name === self.name
        ? `${name} is this node itself`
        : `no address of ${name} is known; join a contact that knows it, or say how to reach it ` +
          "with links.setConnectOptions",
    );
    for (const address of chosen === undefined ? addresses : [chosen]) {
      // The peer may have dialled us meanwhile.
      const link = live(name);
      if (link !== undefined) return link.peer;
      try {
        return await dialAddress(address, name, publicKey);
      } catch (error) {
        failure = error;
      }
    }
    const link = live(name);
    if (link !== undefined) return link.peer;
    throw failure;
  };

  const dialAddress = async (
    address: string,
    name: NodeName | undefined,
    publicKey: Uint8Array | undefined,
  ): Promise<PeerIdentity> => {
    const datagrams = name === undefined ? undefined : connectOptions(name)?.datagrams;
    const authenticated = await ports.dial(address, {
      ...(publicKey === undefined ? {} : { publicKey }),
      ...(datagrams === undefined ? {} : { datagrams }),
    });
    const { connection, peer } = authenticated;
    if (name !== undefined) expectPeer(authenticated, address, name);
    // Two dials of ours may have met: the first link stays, the second is never used.
    const first = live(peer.name) ?? ports.ownPending(peer.name);
    if (first !== undefined && isSameLife(first.peer, peer)) {
      connection.close(CloseCode.REPLACED, "a link is there already");
      return live(peer.name)?.peer ?? await whenUp(first);
    }
    return await takeUp(authenticated, NOTHING);
  };

  const expectPeer = ({ connection, peer }: Authenticated, address: string, name: NodeName) => {
    if (peer.name === name) return;
    connection.close(CloseCode.GOODBYE, "another node");
    throw new TransportError("unreachable", `${address} is ${peer.name}, not ${name}`);
  };

  const takeUp = async (authenticated: Authenticated, replaces: Bytes): Promise<PeerIdentity> => {
    await ports.admit(authenticated);
    const link = ports.begin(authenticated, replaces);
    const up = whenUp(link);
    link.start();
    return await up;
  };

  // Resolves when there is a link to the peer: this one, or the one that won over it.
  const whenUp = (link: Link): Promise<PeerIdentity> =>
    new Promise((resolve, reject) => {
      const { name } = link.peer;
      waiting.set(link, [...waiting.get(link) ?? [], () => resolve(link.peer)]);
      void link.connection.closed.then(() => {
        waiting.delete(link);
        if (live(name) !== undefined) resolve(link.peer);
        else reject(new TransportError("closed", `the connection to ${name} ended as it began`));
      });
    });

  return {
    byName,
    byAddress: (address) => dialAddress(address, undefined, undefined),
    async takeOver(authenticated, address, name, replaces) {
      expectPeer(authenticated, address, name);
      await takeUp(authenticated, replaces);
    },
    ready(link) {
      for (const resolve of waiting.get(link) ?? []) resolve();
      waiting.delete(link);
    },
  };
}
