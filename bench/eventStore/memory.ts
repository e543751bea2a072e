/**
 * The EventStore in memory, beside nothing: what the contract itself costs, without a backend.
 */
import { ManagedRuntime } from "effect"
import { EventStoreMemory } from "effect-stores/memory"
import { type Opened, workloads } from "./workloads.js"

export const memory = async (): Promise<Opened> => {
  const runtime = ManagedRuntime.make(EventStoreMemory.layer())
  return {
    facts: {},
    workloads: await workloads(runtime, [], {
      takesTurns: true,
      callers: [1],
      // A heap full of earlier workloads' events would be what is measured.
      startsEmpty: true
    }),
    close: () => runtime.dispose()
  }
}
