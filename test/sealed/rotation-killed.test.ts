/**
 * A rotation whose process is killed again and again, while events are appended, changed and read: no read fails, nothing
 * that was written is lost, and what is begun again comes to an end.
 */
import assert from "node:assert/strict"
import * as path from "node:path"
import { Chunk, Effect, Layer, Stream } from "effect"
import { CryptoService, EventStore } from "effect-stores"
import { describe, test } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { isFull } from "../support/scale.js"
import { allStores, fill, idOf, look, onPg, onSqlite, streamOf, under, type World } from "./worlds.js"

const events = isFull ? 100_000 : 5_000
const kills = isFull ? 20 : 3
/** The job alone would end before it was killed so often. */
const perSecond = isFull ? 10_000 : 1_000

const program = new URL("../workers/reencrypt.ts", import.meta.url)

const killed = (kind: "sqlite" | "pg", world: World, place: string) =>
  Effect.gen(function* () {
    yield* Effect.provide(fill(events, events / 10), under(world, ["k1"]))
    const service = yield* Layer.build(under(world, ["k2", "k1"]))
    const use = Effect.provide(service)
    const store = yield* use(EventStore.EventStore)
    const before = yield* use(look)

    let isOver = false
    const until = <E>(self: Effect.Effect<unknown, E>) =>
      Effect.iterate(0, {
        while: () => !isOver,
        body: (n) => Effect.as(Effect.zipLeft(self, Effect.sleep(5)), n + 1)
      })
    let appended = 0
    const append = Effect.suspend(() =>
      store.append(
        { ...streamOf(appended % 7), domain: "Later" },
        [{ type: "Added", data: { later: appended++ }, metadata: { at: appended } }],
        { expected: "any" }
      )
    )
    // Of what the job has before it as well as of what it has behind it.
    const changed = new Map<string, number>()
    const change = Effect.suspend(() => {
      const n = Math.floor(Math.random() * events)
      changed.set(idOf(n), changed.size)
      return store.maintenance.update(idOf(n), { data: { changed: changed.get(idOf(n)) ?? 0 } })
    })
    const read = Effect.suspend(() =>
      Stream.runDrain(store.feed({ after: Math.floor(Math.random() * events), limit: 500 }))
    )

    const lives = Effect.gen(function* () {
      let deaths = 0
      for (;;) {
        const worker = spawnWorker(program, { args: [kind, place, "k2", "k1", String(perSecond)] })
        let last: unknown
        yield* Effect.promise(async () => {
          for await (const line of worker.lines) {
            const report = JSON.parse(line) as { readonly resealed?: number } | "done"
            last = report
            // In the middle of what comes next, once this life has done something.
            if (report !== "done" && (report.resealed ?? 0) > 0 && deaths < kills) worker.kill()
          }
        })
        const exit = yield* Effect.promise(() => worker.exited)
        if (exit.signal === "SIGKILL") {
          deaths++
          continue
        }
        assert.equal(exit.code, 0, exit.stderr)
        assert.equal(last, "done")
        return deaths
      }
    })
    const load = Effect.all([until(append), until(change), until(read)], { concurrency: "unbounded" })
    const [deaths, rounds] = yield* Effect.all(
      [
        Effect.ensuring(
          lives,
          Effect.sync(() => {
            isOver = true
          })
        ),
        load
      ],
      { concurrency: "unbounded" }
    )
    assert.equal(deaths, kills)
    assert.ok(
      rounds.every((n) => n > 10),
      JSON.stringify(rounds)
    )

    const stores = yield* use(allStores)
    const counts = yield* CryptoService.countKeys(stores)
    assert.deepEqual([...new Set(counts.map(({ keyId }) => keyId))], ["k2"])
    const after = yield* look.pipe(Effect.provide(under(world, ["k2"])))
    const expected = before.feed.map((event) =>
      changed.has(event.id) ? { ...event, data: { changed: changed.get(event.id) } } : event
    )
    assert.equal(after.feed.length, events + appended)
    assert.deepEqual(after.feed.slice(0, events), expected)
    const later = after.feed.slice(events).map(({ data }) => (data as { later: number }).later)
    assert.deepEqual(later, Chunk.toReadonlyArray(Chunk.range(0, appended - 1)))
    assert.deepEqual({ ...after, feed: [] }, { ...before, feed: [] })
    return { events: after.feed.length, changed: changed.size, deaths }
  }).pipe(Effect.scoped, Effect.runPromise)

const timeout = isFull ? 7_200_000 : 600_000

describe(`a rotation that is killed ${kills} times`, { timeout }, () => {
  test("on SQLite", async () => {
    const filename = path.join(temporaryDirectory(), "stores.db")
    console.log("rotation killed, SQLite:", JSON.stringify(await killed("sqlite", onSqlite(filename), filename)))
  })
  describePg("on PostgreSQL", () => {
    test("on PostgreSQL", async () => {
      const url = await freshDatabase()
      console.log("rotation killed, PostgreSQL:", JSON.stringify(await killed("pg", onPg(url), url)))
    })
  })
})
