/**
 * The driver is synchronous; the event loop goes on all the same.
 */
import * as path from "node:path"
import { Effect } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { expect, it } from "vitest"
import { temporaryDirectory } from "../support/backends.js"

it("timers get their turn while one fiber appends without a pause", async () => {
  let ticks = 0
  const appends = Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const timer = setInterval(() => ticks++, 5)
    const end = performance.now() + 500
    for (let version = 0; performance.now() < end; version++) {
      const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
      yield* store.append(stream, [{ type: "Happened", data: version }], { expected: version })
    }
    clearInterval(timer)
  })
  const filename = path.join(temporaryDirectory(), "loop.db")
  await Effect.runPromise(Effect.provide(appends, EventStoreSqlite.layer({ filename, synchronous: "OFF" })))
  // One in 500 ms would be a loop that stood still; one every 10 to 15 ms is what is meant.
  expect(ticks).toBeGreaterThan(10)
})
