/**
 * The driver is synchronous; the event loop goes on all the same. Its turns are held against the processor time of this
 * process, which a busy machine does not change, and not against the clock.
 */
import * as path from "node:path"
import { Effect } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { expect, it } from "vitest"
import { temporaryDirectory } from "../support/backends.js"

/** What is meant is a turn after every 10 ms of work; work is also done by the compiler and the garbage collector. */
const workBetweenTurnsMsMax = 100

const appends = 20_000

/** Milliseconds of work between two turns of the event loop, on average, while one fiber appends without a pause. */
const workBetweenTurns = (inOneTransaction: boolean): Promise<number> => {
  const work = Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const database = yield* SqliteDatabase.SqliteDatabase
    const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
    const all = Effect.gen(function* () {
      for (let version = 0; version < appends; version++) {
        yield* store.append(stream, [{ type: "Happened", data: version }], { expected: version })
      }
    })
    let ticks = 0
    const timer = setInterval(() => ticks++, 1)
    const before = process.cpuUsage()
    yield* inOneTransaction ? database.transaction(all) : all
    const { system, user } = process.cpuUsage(before)
    clearInterval(timer)
    return (system + user) / 1000 / (ticks + 1)
  })
  const filename = path.join(temporaryDirectory(), "loop.db")
  return Effect.runPromise(Effect.provide(work, EventStoreSqlite.layer({ filename, synchronous: "OFF" })))
}

it("timers get their turn while one fiber appends without a pause", async () => {
  expect(await workBetweenTurns(false)).toBeLessThan(workBetweenTurnsMsMax)
})

it("timers get their turn while one fiber appends without a pause in one transaction", async () => {
  expect(await workBetweenTurns(true)).toBeLessThan(workBetweenTurnsMsMax)
})
