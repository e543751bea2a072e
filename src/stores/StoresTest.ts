/**
 * All five stores in memory, whatever Config says: for tests.
 *
 * @since 0.1.0
 */
import * as ConfigProvider from "effect/ConfigProvider"
import type * as Layer from "effect/Layer"
import * as Stores from "./Stores.js"

/**
 * Empty stores of their own each time the layer is built. Events, commands and snapshots share a `MemoryDatabase`.
 *
 * @example
 * ```ts
 * import { it } from "@effect/vitest"
 * import { Effect } from "effect"
 * import { EventStore } from "effect-stores"
 * import { StoresTest } from "effect-stores/stores"
 *
 * it.effect("appends", () =>
 *   Effect.gen(function* () {
 *     const store = yield* EventStore.EventStore
 *     const order = { tenantId: "acme", domain: "order", aggregateId: "1" }
 *     yield* store.append(order, [{ type: "Placed", data: {} }], { expected: "noStream" })
 *   }).pipe(Effect.provide(StoresTest.layer))
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Stores.All | Stores.StoresHealth, Stores.StoresError> = Stores.chosenByConfig(
  {},
  ConfigProvider.fromMap(new Map())
) as Layer.Layer<Stores.All | Stores.StoresHealth, Stores.StoresError>
