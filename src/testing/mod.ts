/**
 * Clusters for tests: whole nodes on virtual time, over a network with chosen latency, loss, cuts
 * and crashes. Two runs with one seed are identical.
 *
 * @module
 */
export { createSimulation } from "./simulation.ts";
export type { Simulation, SimulationOptions } from "./simulation.ts";
export { createVirtualClock } from "./virtual_clock.ts";
export type { VirtualClock } from "./virtual_clock.ts";
export { createMemoryNetwork } from "../transport/memory.ts";
export type { MemoryHost, MemoryNetwork, MemoryNetworkOptions } from "../transport/memory.ts";
