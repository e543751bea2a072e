/**
 * A sequence of SQLite that somebody has set behind its table: SQLite itself goes on after the table's last row, and so
 * does the feed.
 */
import * as path from "node:path"
import { assert, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect, Stream } from "effect"
import { CommandStore, EventStore } from "effect-stores"
import { CommandStoreSqlite, EventStoreSqlite } from "effect-stores/sqlite"
import { describe } from "vitest"
import { temporaryDirectory } from "../support/backends.js"

const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const event = { type: "Happened", data: 1 }

for (const [how, statement] of [
  ["set back", "UPDATE sqlite_sequence SET seq = 3"],
  ["deleted", "DELETE FROM sqlite_sequence"]
] as const) {
  describe(`a sequence behind its table, on SQLite, ${how}`, () => {
    it.live("hides no event from the feed, and no position is used again", () =>
      Effect.gen(function* () {
        const filename = path.join(temporaryDirectory(), "events.db")
        const layer = EventStoreSqlite.layer({ filename })
        const append = Effect.flatMap(EventStore.EventStore, (store) =>
          store.append(
            stream,
            Array.from({ length: 20 }, () => event),
            { expected: "any" }
          )
        )
        const feed = Effect.flatMap(EventStore.EventStore, (store) =>
          Effect.all([Stream.runCount(store.feed()), store.head, Stream.runCount(store.subscribe({ limit: 20 }))])
        )
        yield* Effect.provide(append, layer)
        const db = new Sqlite(filename)
        db.exec(statement)
        db.close()
        assert.deepStrictEqual(yield* Effect.provide(feed, layer), [20, 20, 20])
        assert.strictEqual((yield* Effect.provide(append, layer)).position, 40)
        assert.deepStrictEqual((yield* Effect.provide(feed, layer)).slice(0, 2), [40, 40])
      })
    )

    it.live("keeps no command from being created and listed", () =>
      Effect.gen(function* () {
        const filename = path.join(temporaryDirectory(), "commands.db")
        const layer = CommandStoreSqlite.layer({ filename })
        const create = Effect.flatMap(CommandStore.CommandStore, (store) =>
          store.create({ id: crypto.randomUUID(), tenantId: "t", domain: "d", type: "Do", data: 1 })
        )
        for (let i = 0; i < 5; i++) yield* Effect.provide(create, layer)
        const db = new Sqlite(filename)
        db.exec(statement)
        db.close()
        yield* Effect.provide(create, layer)
        const listed = Effect.flatMap(CommandStore.CommandStore, (store) => Stream.runCount(store.list()))
        assert.strictEqual(yield* Effect.provide(listed, layer), 6)
      })
    )
  })
}
