/** What an instrument counts, for `# HELP` lines and the reference page. */
export interface Instrument {
  readonly kind: "counter" | "gauge";
  readonly help: string;
}

/**
 * Every instrument of the library by name. Counters end in `_total`; units are in the name.
 * Rooms add theirs here, so that one page lists them all.
 */
export const INSTRUMENTS: Readonly<Record<string, Instrument>> = {
  barrel_handshake_accepted_total: { kind: "counter", help: "Handshakes that ended well, by role" },
  barrel_handshake_refused_total: {
    kind: "counter",
    help: "Handshakes that were refused, by role, reason and side",
  },
  barrel_handshake_ms_total: {
    kind: "counter",
    help: "Time that handshakes took behind TLS, milliseconds, by role and outcome",
  },
  barrel_handshakes_within_total: {
    kind: "counter",
    help: "Handshakes that took no longer than `le` milliseconds, by role and outcome",
  },
  barrel_keys_rotated_total: { kind: "counter", help: "Rotations of this node's key" },
  barrel_keys_followed_total: { kind: "counter", help: "Pins that followed a peer's new key" },
  barrel_links: { kind: "gauge", help: "Authenticated connections now" },
  barrel_migrations_total: { kind: "counter", help: "Links moved to a new path, by way" },
  barrel_link_down_total: { kind: "counter", help: "Links that ended, by reason" },
  barrel_frames_refused_total: {
    kind: "counter",
    help: "Frames of authenticated peers that broke the protocol, by reason",
  },
  barrel_undelivered_total: {
    kind: "counter",
    help: "Frames and signals that could not be handed to a link, by reason",
  },
  barrel_replica_applied_total: {
    kind: "counter",
    help: "Deltas of other nodes' rows that were applied, by store and way",
  },
  barrel_replica_overtook_total: {
    kind: "counter",
    help: "Deltas that came before too many of those they build on, and are pulled, by store",
  },
  barrel_replica_refused_total: {
    kind: "counter",
    help: "What peers sent of replicated stores and was refused, by store and reason",
  },
  barrel_replica_unsaved_total: {
    kind: "counter",
    help: "Writes of replicated rows that the disk refused, by store",
  },
  barrel_replica_damaged_total: {
    kind: "counter",
    help:
      "What a damaged or older disk costs replicated stores: lives of nodes, unreadable rows, by store",
  },
  barrel_storage_damaged_total: {
    kind: "counter",
    help: "Entries that the disk damaged, and files that were set aside whole, by what",
  },
  barrel_accusations_total: { kind: "counter", help: "Nodes this one accused, by evidence" },
  barrel_active_view: { kind: "gauge", help: "Neighbours in the overlay" },
  barrel_broadcast_delivered_total: { kind: "counter", help: "Broadcasts that arrived here" },
  barrel_broadcast_events_total: {
    kind: "counter",
    help: "Duplicates, repairs of the trees and losses, by kind",
  },
  barrel_broadcast_kept: { kind: "gauge", help: "Broadcasts kept for those who missed them" },
  barrel_broadcast_kept_bytes: { kind: "gauge", help: "Their payloads' bytes" },
  barrel_broadcast_missing: { kind: "gauge", help: "Announced broadcasts that have not come" },
  barrel_broadcast_waiting: { kind: "gauge", help: "Announcements about to leave" },
  barrel_broadcast_sent_total: { kind: "counter", help: "Frames of the broadcast, by kind" },
  barrel_mailbox_high_water_total: {
    kind: "counter",
    help: "How often a mailbox grew to the high-water mark",
  },
  barrel_map_claims_refused_total: {
    kind: "counter",
    help: "Claims of map entries to replace others that are not believed or remembered, by reason",
  },
  barrel_map_hidden_total: {
    kind: "counter",
    help: "Entries of maps that are held and not shown here, by map and reason",
  },
  barrel_map_other_kind_total: {
    kind: "counter",
    help: "Rows written elsewhere under a map's name opened as the other kind, by map",
  },
  barrel_map_testimonies_total: {
    kind: "counter",
    help: "Rows written since only this node knew that an entry is replaced, by map",
  },
  barrel_map_unsaid_total: {
    kind: "counter",
    help: "Such rows that could not be written, by map and reason",
  },
  barrel_members_changed_total: { kind: "counter", help: "Transitions of members, by type" },
  barrel_membership_sent_total: { kind: "counter", help: "Messages of the overlay, by type" },
  barrel_messages_dropped_total: {
    kind: "counter",
    help: "Messages to processes or names that are not there, by reason",
  },
  barrel_passive_view: { kind: "gauge", help: "Peers kept in reserve" },
  barrel_proxy_dropped_total: { kind: "counter", help: "Messages that a proxy could not pass on" },
  barrel_router_refused_total: { kind: "counter", help: "Name queries that were refused" },
  barrel_rpc_refused_total: {
    kind: "counter",
    help: "Calls of procedures that were refused, by reason",
  },
  barrel_signals_dropped_total: {
    kind: "counter",
    help: "Signals and replies that an overloaded link did not take",
  },
  barrel_supervisor_restarts_total: {
    kind: "counter",
    help: "Children that supervisors started again",
  },
  barrel_streams: { kind: "gauge", help: "Tagged streams that are open" },
  barrel_streams_refused_total: {
    kind: "counter",
    help: "Streams and pipes of peers that were refused, by reason",
  },
  barrel_streams_total: {
    kind: "counter",
    help: "Tagged streams that were accepted, here or by a peer, by direction",
  },
};
