/**
 * What probes ask, at `/health`.
 */
import { HttpApiBuilder, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import { Stores } from "effect-stores/stores"

/** Without snapshots and cache everything takes longer, and goes on. */
const needed = ["eventStore", "commandStore", "dataStore"] as const

/**
 * 503 while a store that is needed is down. One that is busy is no reason: requests wait for a connection, and would do
 * so in another process too.
 */
const probe = Effect.gen(function* () {
  const stores = yield* Stores.health
  for (const [store, health] of Object.entries(stores)) {
    if (health.status === "down") yield* Effect.logWarning(`${store} is down`, health.error)
  }
  const isUp = needed.every((store) => stores[store]?.status !== "down")
  const shown = Object.fromEntries(Object.entries(stores).map(([store, { status }]) => [store, status]))
  return HttpServerResponse.unsafeJson(shown, { status: isUp ? 200 : 503, headers: { "cache-control": "no-store" } })
})

export const health = HttpApiBuilder.Router.use((router) =>
  Effect.gen(function* () {
    const stores = yield* Effect.context<Stores.StoresHealth>()
    yield* router.get("/health", Effect.provide(probe, stores))
  })
)
