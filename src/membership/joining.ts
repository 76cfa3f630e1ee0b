import { pick, sample } from "../base/random.ts";
import type { Bytes } from "../base/bytes.ts";
import { Contacts } from "./contacts.ts";
import type { Contact } from "./contacts.ts";
import { entryOf } from "./peer_entry.ts";
import type { Peer, PeerEntry } from "./peer_entry.ts";
import type { Views } from "./views.ts";

/** How newcomers come in, on both sides: contacts, JOIN, and the walks that spread a newcomer. */
export class Joining {
  /** The ways in. */
  readonly contacts: Contacts = new Contacts();
  readonly #views: Views;
  readonly #dial: (address: string) => void;
  readonly #probe: (entry: PeerEntry, now: number) => void;

  /** `dial` opens a link to an address; `probe` asks a peer which island it lives on. */
  constructor(
    views: Views,
    dial: (address: string) => void,
    probe: (entry: PeerEntry, now: number) => void,
  ) {
    this.#views = views;
    this.#dial = dial;
    this.#probe = probe;
  }

  /** Dials a contact, or asks it for a place when its name is known. */
  tryContact(contact: Contact, now: number): void {
    const { address, peer } = contact;
    this.contacts.tried(contact, now);
    // By name when we know it, by address in between: another node may live there by now.
    if (peer !== undefined && (address === undefined || contact.attempts % 2 === 0)) {
      if (peer.name === this.#views.self.name) return this.contacts.remove(contact);
      if (!this.#views.active.has(peer.name)) this.#approach(peer, contact.attempts > 1, now);
    } else if (address !== undefined && !contact.dialling) {
      contact.dialling = true;
      this.#dial(address);
    }
  }

  /** Turns to any contact that is no neighbour; `false` when there is none. */
  tryAny(now: number): boolean {
    // While we have nobody each is tried in its own time anyway.
    if (this.#views.active.size === 0) return false;
    const contacts = this.contacts.all().filter(({ peer }) =>
      peer === undefined || !this.#views.active.has(peer.name)
    );
    const contact = pick(this.#views.random, contacts);
    if (contact === undefined) return false;
    this.tryContact(contact, now);
    return true;
  }

  /** Somebody answers at a contact's address. */
  contactUp(address: string, peer: Peer, now: number): void {
    const contact = this.contacts.at(address);
    if (contact === undefined) return;
    contact.dialling = false;
    if (peer.name === this.#views.self.name) return this.contacts.remove(contact);
    contact.peer = entryOf(peer);
    this.#views.heard(peer, undefined, now);
    if (!this.#views.isRunning || this.#views.active.has(peer.name)) return;
    this.#approach(contact.peer, contact.attempts > 1, now);
  }

  /** Asks a contact for a place; once we have all we need, only whether it lives on our island. */
  #approach(entry: PeerEntry, again: boolean, now: number): void {
    if (this.#views.free(now) <= 0) return this.#probe(entry, now);
    if (this.#views.asked.has(entry.name) || this.#views.leaving.has(entry.name)) return;
    const request = this.#views.noteRequest(entry, 2, undefined, now);
    const urgent = again && this.#views.active.size === 0;
    this.#views.send(entry.name, {
      type: "join",
      request,
      urgent,
      record: this.#views.self.record,
    });
  }

  /**
   * Departure: in the paper the contact always takes the newcomer in and drops a neighbour for it.
   * With one contact for all, its neighbours are always the latest newcomers, and every walk starts
   * among them: measured at 1,000 nodes, clustering 0.10 and paths of 8.8 hops where a random graph
   * has 0.004 and 4.7. Here a full contact takes in only those who stay alone without it.
   */
  join(from: Peer, request: number, urgent: boolean, record: Bytes, now: number): void {
    const newcomer = entryOf(from, record);
    const others = this.#views.activeView.filter((name) => name !== from.name);
    const full = this.#views.isFull;
    this.#views.decide(newcomer, request, urgent ? "high" : "low", undefined, now);
    // A walk that ends at a full node brings two neighbours, so three are enough.
    for (const name of sample(this.#views.random, others, full ? 3 : others.length)) {
      if (!this.#views.active.has(name)) continue;
      this.#views.send(name, {
        type: "forwardJoin",
        peer: newcomer,
        ttl: this.#views.options.arwl,
      });
    }
  }

  /** A newcomer's walk passes by, or ends here. */
  forwardJoin(from: Peer, peer: PeerEntry, ttl: number, now: number): void {
    if (peer.name === this.#views.self.name) return;
    const hops = Math.min(ttl, this.#views.options.arwl);
    if (hops === this.#views.options.prwl) this.#views.learn(peer, now);
    const known = this.#views.active.has(peer.name) || this.#views.asked.has(peer.name) ||
      this.#views.leaving.has(peer.name);
    // Departure: a node with a free slot ends the walk, since both are looking for a neighbour.
    const ends = hops === 0 || this.#views.free(now) > 0;
    if (ends && !known) return this.#court(peer, now);
    if (hops === 0) return;
    // Departure: the last hop leads to a passive peer, so to any place in the overlay. A walk of six
    // hops from one contact reaches but a part of a large one, and nodes would pile up there.
    const next = hops === 1
      ? this.#views.passive.sample(1, peer.name)[0]?.name
      : this.#views.step(from.name, peer.name);
    if (next !== undefined) this.#views.send(next, { type: "forwardJoin", peer, ttl: hops - 1 });
    else if (!known) this.#court(peer, now);
  }

  /**
   * The end of a newcomer's walk. Departure: in the paper the end drops a random peer and adds the
   * newcomer, unasked. Here a full end puts the newcomer *between* itself and the peer it drops:
   * both become its neighbours, nobody's view gets shorter, and the graph stays random and regular.
   */
  #court(peer: PeerEntry, now: number): void {
    const offer = this.#views.free(now) > 0 ? undefined : this.#views.victim(peer.name);
    if (this.#views.isFull && offer === undefined) return;
    this.#views.ask(peer, "low", offer, now);
  }
}
