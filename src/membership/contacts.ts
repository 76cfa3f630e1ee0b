import { backoffMs } from "./backoff.ts";
import { entryOf } from "./peer_entry.ts";
import type { PeerEntry } from "./peer_entry.ts";

/** Longest wait between two attempts at a contact while we have no neighbour, milliseconds. */
const CONTACT_MAX_MS = 60_000;
/** Contacts kept; the oldest goes first. */
const MAX_CONTACTS = 64;

/** A node that an operator named as the way in: by address, or by name. */
export interface Contact {
  /** A URL; `undefined` for a contact given by name. */
  readonly address: string | undefined;
  /** Who answers there, once known. */
  peer: PeerEntry | undefined;
  /** Attempts since somebody accepted us. */
  attempts: number;
  retryAt: number;
  /** A dial to the address is under way. */
  dialling: boolean;
}

/** The ways in, never forgotten: a node that lost everybody comes back through them. */
export class Contacts {
  readonly #byKey = new Map<string, Contact>();

  /** Adds a contact: an address (it has a scheme) or a node name. */
  add(contact: string): Contact {
    const known = this.#byKey.get(contact);
    if (known !== undefined) return known;
    if (this.#byKey.size >= MAX_CONTACTS) {
      const oldest = this.#byKey.keys().next().value;
      if (oldest !== undefined) this.#byKey.delete(oldest);
    }
    const isAddress = contact.includes("://");
    const added: Contact = {
      address: isAddress ? contact : undefined,
      peer: isAddress ? undefined : entryOf({ name: contact, epoch: 0, addresses: [] }),
      attempts: 0,
      retryAt: 0,
      dialling: false,
    };
    this.#byKey.set(contact, added);
    return added;
  }

  /** Takes a contact out: it turned out to be ourselves. */
  remove(contact: Contact): void {
    for (const [key, known] of this.#byKey) if (known === contact) this.#byKey.delete(key);
  }

  /** The contact at `address`. */
  at(address: string): Contact | undefined {
    return this.#byKey.get(address);
  }

  /** The entry of the contact that is called `name`. */
  entryOf(name: string): PeerEntry | undefined {
    for (const { peer } of this.#byKey.values()) if (peer?.name === name) return peer;
    return undefined;
  }

  /** All contacts. */
  all(): Contact[] {
    return [...this.#byKey.values()];
  }

  /** Contacts to try now. */
  due(now: number): Contact[] {
    return this.all().filter((contact) => !contact.dialling && contact.retryAt <= now);
  }

  /** Counts an attempt: the next one waits twice as long. */
  tried(contact: Contact, now: number): void {
    contact.attempts++;
    contact.retryAt = now + backoffMs(contact.attempts, CONTACT_MAX_MS);
  }

  /** Somebody accepted us: the next loss starts with short waits again. */
  reset(): void {
    for (const contact of this.#byKey.values()) {
      contact.attempts = 0;
      contact.retryAt = 0;
    }
  }

  /** When the next contact is due; `Infinity` when there is none. */
  get nextAt(): number {
    let next = Infinity;
    for (const contact of this.#byKey.values()) {
      if (!contact.dialling && contact.retryAt < next) next = contact.retryAt;
    }
    return next;
  }
}
