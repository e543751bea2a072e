/**
 * The EventStore's contract through a layer that seals events at the port, on each backend: users of the tag cannot tell.
 */
import * as path from "node:path"
import { Effect, Layer, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { EventStoreSuite } from "effect-stores/testing"
import { describe, expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"
import { sealed } from "./support/sealedEvents.js"

EventStoreSuite.contract("sealed EventStore in memory", EventStoreMemory.layer().pipe(sealed))

const file = { filename: path.join(temporaryDirectory(), "sealed.db") }
EventStoreSuite.contract("sealed EventStore on SQLite", EventStoreSqlite.layer(file).pipe(sealed), {
  readOnly: EventStoreSqlite.layer({ ...file, readOnly: true }).pipe(sealed)
})

describePg("sealed EventStore on PostgreSQL", async () => {
  const url = Redacted.make(await freshDatabase())
  EventStoreSuite.contract("sealed EventStore on PostgreSQL", EventStorePg.layer({ url }).pipe(sealed), {
    readOnly: EventStorePg.layer({ url, readOnly: true }).pipe(sealed)
  })
})

describe("what is stored through a layer that seals", () => {
  const stream = { tenantId: "acme", domain: "order", aggregateId: "1" }
  const event = { type: "Placed", data: { secret: "open sesame" }, metadata: { by: "ali baba" } }

  it("is sealed in the file, and read as it was put in", async () => {
    const program = Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      yield* store.append(stream, [event], { expected: "noStream" })
      const { sql } = yield* SqliteDatabase.SqliteDatabase
      const [row] = yield* sql<{ readonly data: string; readonly metadata: string; readonly keyId: string }>`
        SELECT data, metadata, key_id AS "keyId" FROM es_events`
      return {
        row,
        read: yield* store.fold(stream, Array.of<unknown>(), (all, { data, metadata }) => [...all, { data, metadata }])
      }
    })
    const { read, row } = await Effect.runPromise(
      Effect.provide(program, EventStoreSqlite.layer({ filename: ":memory:" }).pipe(sealed))
    )
    expect(row?.keyId).toBe("k1")
    expect(JSON.stringify(row)).not.toMatch(/sesame|baba/)
    expect(read).toEqual([{ data: event.data, metadata: event.metadata }])
  })

  it("cannot be read without the layer: a typed error names the key", async () => {
    const program = Effect.gen(function* () {
      const plain = yield* EventStore.EventStore
      const store = yield* EventStore.EventStore.pipe(
        Effect.provide(sealed(Layer.succeed(EventStore.EventStore, plain)))
      )
      yield* store.append(stream, [event], { expected: "noStream" })
      return yield* Effect.flip(plain.page())
    })
    const error = await Effect.runPromise(Effect.provide(program, EventStoreMemory.layer()))
    expect(error._tag).toBe("StoreError")
    expect(error.message).toContain("k1")
  })
})
