/**
 * Appends batches until it is killed, and reports each one that was acknowledged. All events of a batch carry its name
 * and size, so that half of one can be told.
 */
import { Effect, Random } from "effect"
import { EventStore } from "effect-stores"
import { report, storeLayer } from "./store.js"

const fibers = 4

const writer = (n: number) =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    // Half of the fibers share a stream.
    const stream = { tenantId: "t", domain: "crash", aggregateId: n % 2 === 0 ? "shared" : `own-${n}` }
    for (;;) {
      const size = yield* Random.nextIntBetween(1, 11)
      const batch = crypto.randomUUID()
      const ids = Array.from({ length: size }, () => crypto.randomUUID())
      const events = ids.map((id) => ({
        id,
        type: "Happened",
        data: { text: "x".repeat(200) },
        metadata: { batch, size }
      }))
      const { version } = yield* store.append(stream, events, { expected: "any" })
      report({ ok: stream.aggregateId, version, ids })
    }
  })

const program = Effect.all(
  Array.from({ length: fibers }, (_, n) => writer(n)),
  { concurrency: "unbounded" }
)
await Effect.runPromise(Effect.provide(program, await storeLayer()))
