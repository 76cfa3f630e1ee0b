/** How to open and close a port of a stack. */
export interface PortKind<Port> {
  /** Idle ports kept for the next dial, for each address family. */
  readonly maxIdle: number;
  open(isIpv6: boolean): Port;
  close(port: Port): void;
}

/**
 * Ports to dial from, each for one connection at a time, and used again. Deno gives the socket and
 * the megabyte of a closed port back only when it collects garbage; Bun never gives one back unasked, and when
 * asked may lose the last packets of the connection.
 */
export class DialPorts<Port> {
  readonly #kind: PortKind<Port>;
  readonly #idle: { 4: Port[]; 6: Port[] } = { 4: [], 6: [] };

  constructor(kind: PortKind<Port>) {
    this.#kind = kind;
  }

  /** A port that nobody uses. */
  take(isIpv6: boolean): Port {
    return this.#idle[isIpv6 ? 6 : 4].pop() ?? this.#kind.open(isIpv6);
  }

  /** Takes a port back whose connection is over; a `broken` one is closed. */
  give(port: Port, isIpv6: boolean, broken = false): void {
    const idle = this.#idle[isIpv6 ? 6 : 4];
    if (broken || idle.length >= this.#kind.maxIdle) this.#kind.close(port);
    else idle.push(port);
  }
}
