/**
 * A store that takes only what is sealed, opened by a process without keys: because a variable is missing, or by hand.
 * It writes nothing that would stop those who have the keys.
 */
import assert from "node:assert/strict"
import * as path from "node:path"
import { Cause, Effect, Exit, Option, Stream } from "effect"
import { describe, test } from "vitest"
import {
  describePg,
  describeRedis,
  freshDatabase,
  freshKeyPrefix,
  redisUrl,
  temporaryDirectory
} from "../support/backends.js"
import {
  allStores,
  bucket,
  fill,
  idOf,
  look,
  mark,
  memoryPorts,
  onPg,
  onPorts,
  onRedisAndFiles,
  onSqlite,
  streamOf,
  tenantId,
  under,
  type World
} from "./worlds.js"

const event = { type: "Added", data: { plain: true } }
const command = { id: idOf(77), tenantId, domain: "Account", type: "Add", data: { plain: true } }
const snapshot = { version: 90, lastEventMark: mark, schemaVersion: "1", state: { plain: true } }
const plainObject = { bucket, name: "plain" }

/** What becomes of each operation that writes a payload: done, or its error. */
const writes = Effect.gen(function* () {
  const [events, commands, snapshots, cache, objects] = yield* allStores
  const stream = streamOf(5)
  const all = {
    append: events.append(stream, [event], { expected: "any" }),
    appendAll: events.appendAll([{ stream, events: [event], expected: "any" }]),
    update: events.maintenance.update(idOf(1), { data: { plain: true } }),
    create: commands.create(command),
    execute: commands.execute(command, Effect.die("was run")),
    updateCommand: commands.update(idOf(1_000_000), { data: { plain: true } }),
    save: snapshots.save(stream, snapshot),
    set: cache.set(tenantId, "plain", 1),
    setMany: cache.setMany(tenantId, [{ key: "plain", value: 1 }]),
    setIfAbsent: cache.setIfAbsent(tenantId, "plain", 1),
    put: objects.put(plainObject, Buffer.from("plain")),
    putStream: objects.put(plainObject, Stream.make(Buffer.alloc(300_000)))
  }
  const exits = yield* Effect.all(all, { mode: "either" })
  return Object.fromEntries(
    Object.entries(exits).map(([name, exit]) => [name, exit._tag === "Right" ? "done" : String(exit.left)])
  )
})

const refuses = (name: string, place: () => Promise<() => World>): void => {
  test(`${name}: refuses every write of a payload, typed, and leaves what is there as it is`, async () => {
    const world = await place()
    const sealed = under(world(), ["k1"])
    const before = await Effect.runPromise(Effect.provide(Effect.zipRight(fill(100), look), sealed))
    await Effect.runPromise(
      Effect.gen(function* () {
        for (const [operation, outcome] of Object.entries(yield* writes)) {
          assert.match(outcome, /^StoreError: .*only what is sealed.*without keys/, operation)
        }
        const [events, commands, snapshots, cache, objects] = yield* allStores
        // A load goes on without the cache.
        assert.equal(yield* cache.getOrSet(tenantId, "plain", Effect.succeed("loaded")), "loaded")
        assert.ok(Option.isNone(yield* cache.get(tenantId, "plain")))
        // What is sealed is not given to anybody; what needs no key is.
        assert.equal((yield* Effect.flip(Stream.runDrain(events.feed())))._tag, "StoreError")
        assert.equal((yield* Effect.flip(commands.get(idOf(1_000_000))))._tag, "StoreError")
        assert.equal((yield* Effect.flip(objects.get({ bucket, name: "o/10" })))._tag, "ObjectCorrupt")
        assert.equal((yield* Effect.exit(snapshots.latest({ ...streamOf(0), domain: "Konto: % ü" })))._tag, "Failure")
        assert.ok(Option.isNone(yield* cache.get(tenantId, "k:1")))
        assert.equal(yield* events.count(), 100)
      }).pipe(Effect.provide(world()))
    )
    assert.deepEqual(await Effect.runPromise(Effect.provide(look, sealed)), before)
  })

  test(`${name}: takes plain writes while plain rows are welcome, and again after the way back`, async () => {
    const world = await place()
    const append = Effect.flatMap(allStores, ([events]) => events.append(streamOf(1), [event], { expected: "any" }))
    const outcome = () =>
      Effect.runPromise(
        Effect.map(Effect.exit(Effect.provide(append, world())), (exit) =>
          Exit.isSuccess(exit) ? "done" : (Option.getOrThrow(Cause.failureOption(exit.cause)) as { _tag: string })._tag
        )
      )
    const opened = (policy: "EncryptAllowPlaintext" | "RequireEncrypt" | "ForbidEncryptAllowDecrypt") =>
      Effect.runPromise(Effect.provide(Effect.void, under(world(), ["k1"], { policy })))
    assert.equal(await outcome(), "done")
    await opened("EncryptAllowPlaintext")
    assert.equal(await outcome(), "done")
    for (let time = 0; time < 3; time++) {
      await opened("RequireEncrypt")
      await opened("EncryptAllowPlaintext")
      assert.equal(await outcome(), "StoreError")
      await opened("ForbidEncryptAllowDecrypt")
      assert.equal(await outcome(), "done")
      await opened("EncryptAllowPlaintext")
      assert.equal(await outcome(), "done")
    }
  })
}

describe("without keys, a store that takes only what is sealed", () => {
  refuses("in memory", async () => {
    const ports = await Effect.runPromise(memoryPorts)
    return () => onPorts(ports)
  })
  refuses("SQLite", async () => {
    const file = path.join(temporaryDirectory(), "stores.db")
    return () => onSqlite(file)
  })
  describePg("on a server", () =>
    refuses("PostgreSQL", async () => {
      const url = await freshDatabase()
      return () => onPg(url)
    })
  )
  describeRedis("on Redis and in files", () =>
    refuses("Redis and files", async () => {
      const [prefix, directory] = [freshKeyPrefix(), temporaryDirectory()]
      return () => onRedisAndFiles(redisUrl() ?? "", prefix, directory)
    })
  )
})
