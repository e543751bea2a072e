/**
 * The EventStore in memory, beside nothing: what the contract itself costs, without a backend.
 */
import { ManagedRuntime } from "effect"
import { EventStoreMemory } from "effect-stores/memory"
import type { Part } from "../parts.js"
import { standard, workloads } from "./workloads.js"

export const memory = async (): Promise<Part> => {
  const runtime = ManagedRuntime.make(EventStoreMemory.layer())
  return {
    title: "InMemory",
    workloads: standard(
      await workloads(runtime, [], {
        takesTurns: true,
        // A heap full of earlier workloads' events would be what is measured.
        startsEmpty: true
      }),
      [1]
    ),
    close: () => runtime.dispose()
  }
}
