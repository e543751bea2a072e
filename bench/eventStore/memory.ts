/**
 * The EventStore in memory, beside nothing: what the contract itself costs, without a backend.
 */
import { ManagedRuntime } from "effect"
import { EventStoreMemory } from "effect-stores/memory"
import type { Workload } from "../harness.js"
import { workloads } from "./workloads.js"

export const memory = async (): Promise<{ workloads: ReadonlyArray<Workload>; close: () => Promise<void> }> => {
  const runtime = ManagedRuntime.make(EventStoreMemory.layer())
  return { workloads: await workloads(runtime, []), close: () => runtime.dispose() }
}
