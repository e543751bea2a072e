/**
 * A process that opens the EventStore on an empty database, appends one event and ends: eight of them race to migrate.
 */
import { Effect, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"

const program = Effect.flatMap(EventStore.EventStore, (store) =>
  store.append({ tenantId: "t", domain: "d", aggregateId: "a" }, [{ type: "Happened", data: process.pid }], {
    expected: "any"
  })
)

await Effect.runPromise(
  Effect.provide(
    program,
    EventStorePg.layer({ url: Redacted.make(process.env.WORKER_PG_URL ?? ""), pool: { maxOpenConns: 2 } })
  )
)
