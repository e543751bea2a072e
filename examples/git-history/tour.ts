/**
 * What the stores do beyond an import, each shown in a few lines on files that are gone afterwards: a long stream and
 * what its snapshot saves, a follower that sees appends as they happen, a sealed store on disk, and an asset that an
 * event refers to.
 */
import { createHash } from "node:crypto"
import { createReadStream, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { NodeStream } from "@effect/platform-node"
import { Array as Arr, Clock, Console, Effect, Fiber, Option, Schema, Stream } from "effect"
import { Aggregate, DataStore, EventStore, SnapshotStore } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { SqliteDatabase } from "effect-stores/sqlite"
import * as BundledHistory from "./BundledHistory.js"
import { domain, File, type FileEvent, files } from "./FileEvents.js"
import { count, number, printable, printTable, size, time } from "./print.js"
import { printLoads, what } from "./report.js"
import { FileError, sealedStores, stores } from "./stores.js"

const stream = { tenantId: "tour", domain, aggregateId: "file" }

const longStreamEvents = 10_000

/** Shows all of it with the events of one stream, which must have one. */
export const printTour = (lived: EventStore.StreamId) =>
  Effect.scoped(
    Effect.gen(function* () {
      const events = yield* Stream.runCollect(files.read(lived, { limit: longStreamEvents }))
      const life = Array.from(events, ({ data }) => data)
      if (!Arr.isNonEmptyArray(life)) return
      const folder = yield* temporaryFolder
      yield* Effect.zipRight(printLongStream(life), printFollower(life)).pipe(
        Effect.provide(stores(Path.join(folder, "long.db")))
      )
      yield* printSealed(folder, life)
      yield* printAsset.pipe(
        Effect.provide(stores(Path.join(folder, "assets.db"))),
        Effect.provide(DataStoreFileSystem.layer({ root: Path.join(folder, "objects") }))
      )
    })
  )

const temporaryFolder = Effect.acquireRelease(
  Effect.try({
    try: () => mkdtempSync(Path.join(tmpdir(), "effect-stores-demo-")),
    catch: (error) => new FileError({ message: `there is no place for temporary files: ${error}` })
  }),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
)

/** A repository has few files with thousands of changes, so the life of one is lived again and again. */
const printLongStream = (life: Arr.NonEmptyReadonlyArray<FileEvent>) =>
  Effect.gen(function* () {
    const events = Arr.makeBy(longStreamEvents, (i) => life[i % life.length] ?? life[0])
    const snapshots = yield* SnapshotStore.SnapshotStore
    for (const part of Arr.chunksOf(events, 500)) {
      yield* files.append(stream, part, { expected: "any" })
      // As an application would, now and then. Each load leaves a snapshot for the next one, which finds it.
      yield* Aggregate.load(File, stream)
      yield* snapshots.flush(stream)
    }
    const path = printable(life[0].path)
    yield* Console.log(
      `\nA long stream: the ${count(life.length, "event")} of ${path}, up to ${number(longStreamEvents)}\n`
    )
    const [without = 0, from = 0] = yield* printLoads(stream)
    yield* Console.log(`\n  The snapshot makes it ${number(Math.round(without / from))} times as fast.`)
  })

/** Each line is printed when the follower has the event: the appends, in another fiber, are some time apart. */
const printFollower = (life: Arr.NonEmptyReadonlyArray<FileEvent>) =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const last = yield* store.version(stream)
    const appends = 3
    const begun: Array<bigint> = []
    yield* Console.log("\nA follower, while another fiber appends\n")
    const follower = yield* files.subscribe({ after: yield* store.head, limit: appends }).pipe(
      Stream.runForEach(({ data, version }) =>
        Effect.flatMap(Clock.currentTimeNanos, (now) => {
          const elapsedMs = Number(now - (begun[version - last - 1] ?? now)) / 1e6
          return Console.log(
            `  version ${number(version)}, ${what(data)}, seen ${time(elapsedMs)} after its append began`
          )
        })
      ),
      Effect.fork
    )
    for (const event of Arr.makeBy(appends, (i) => life[i % life.length] ?? life[0])) {
      yield* Effect.sleep("300 millis")
      begun.push(yield* Clock.currentTimeNanos)
      yield* files.append(stream, [event], { expected: last + begun.length - 1 })
    }
    yield* Fiber.join(follower)
  })

/** The same events in a plain file and in a sealed one, and what a thief of the disk finds of their author. */
const printSealed = (folder: string, life: Arr.NonEmptyReadonlyArray<FileEvent>) =>
  Effect.gen(function* () {
    const { author } = life[0]
    const keep = Effect.gen(function* () {
      yield* files.append(stream, life, { expected: "noStream" })
      const { sql } = yield* SqliteDatabase.SqliteDatabase
      const [row] = yield* sql<{ data: string }>`select data from es_events order by version limit 1`
      const readBack = yield* Stream.runCollect(files.read(stream))
      return { stored: row?.data ?? "", readBack: readBack.length }
    })
    const ways = { "plain.db": stores, "sealed.db": sealedStores }
    const rows = yield* Effect.forEach(Object.entries(ways), ([name, storesOn]) =>
      Effect.gen(function* () {
        const { readBack, stored } = yield* Effect.provide(keep, storesOn(Path.join(folder, name)))
        const found = occurrences(folder, name, JSON.stringify(author).slice(1, -1))
        return [name, found === 0 ? "never" : count(found, "time"), count(readBack, "event"), `${stored.slice(0, 48)}…`]
      })
    )
    const person = printable(author.replace(/ <.*/, ""))
    yield* Console.log(`\nA sealed store: is the author, ${person}, to be found on disk?\n`)
    yield* printTable(
      ["", "found", "read back", "an event, as it is stored"],
      rows.map((row) => row.map(printable))
    )
  })

/** How often a text is in a database file, or in what SQLite keeps beside it. */
const occurrences = (folder: string, name: string, text: string): number =>
  readdirSync(folder)
    .filter((file) => file === name || file.startsWith(`${name}-`))
    .reduce(
      (sum, file) => sum + readFileSync(Path.join(folder, file)).toString("latin1").split(latin1(text)).length - 1,
      0
    )

const latin1 = (text: string): string => Buffer.from(text).toString("latin1")

const Archived = Schema.TaggedStruct("Archived", { bucket: Schema.String, name: Schema.String, sha256: Schema.String })

const archives = EventStore.forSchema(Archived)

/** First the object, then the event that refers to it: so there is no event without its object. */
const printAsset = Effect.gen(function* () {
  const objects = yield* DataStore.DataStore
  const object = { bucket: "archives", name: Path.basename(BundledHistory.path) }
  yield* objects.buckets.create(object.bucket)
  const body = NodeStream.fromReadable<FileError, Uint8Array>(
    () => createReadStream(BundledHistory.path),
    (error) => new FileError({ message: `${BundledHistory.path} cannot be read: ${error}` })
  )
  const put = yield* objects.put(object, body, { contentType: "application/gzip" })
  const archived = Archived.make({ ...object, sha256: put.sha256 })
  yield* archives.append(stream, [archived], { expected: "noStream" })

  const [event] = yield* Stream.runCollect(archives.read(stream))
  const found = Option.getOrThrow(yield* objects.get(event?.data ?? object))
  const sha256 = yield* Stream.runFold(found.body, createHash("sha256"), (hash, bytes) => hash.update(bytes))
  const isSame = sha256.digest("hex") === event?.data.sha256
  yield* Console.log("\nAn asset: an object, and an event that refers to it\n")
  yield* printTable(
    ["", ""],
    [
      ["object", `${object.name}, ${size(put.size)}, a file in the bucket ${object.bucket}`],
      ["event", `${event?.type}: bucket, name and SHA-256 ${put.sha256.slice(0, 16)}…`],
      ["read", `from the event to the object, ${size(found.info.size)}, ${isSame ? "the same" : "another"} SHA-256`]
    ]
  )
})
