/**
 * Issues invoices, loses some halves, and finds them again. Run it with
 * `npx tsx --conditions=source examples/invoices/main.ts`.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Console, Effect, Layer } from "effect"
import { DataStore } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { bucket, issue, missingDocuments, sweepObjects } from "./invoices.js"

const folder = process.argv[2] ?? path.join(os.tmpdir(), `invoices-${process.pid}`)
fs.mkdirSync(folder, { recursive: true })

const pdf = (words: string) => new TextEncoder().encode(`%PDF-1.7 ${words}`)
const invoice = (aggregateId: string) => ({ tenantId: "acme", aggregateId })
const quietly = () => Effect.void

const program = Effect.gen(function* () {
  const objects = yield* DataStore.DataStore
  yield* objects.buckets.create(bucket)
  const kept = yield* issue(invoice("2026-1"), 120, pdf("one"))
  const lost = yield* issue(invoice("2026-2"), 80, pdf("two"))
  // A process that died between the object and the event.
  yield* objects.put({ bucket, name: "acme/2026-3/abc" }, pdf("three"))
  // Somebody who cleans up by hand.
  yield* objects.delete({ bucket, name: lost })

  const sweep = (grace: "1 day" | "0 millis", dryRun: boolean) => sweepObjects({ grace, dryRun, progress: quietly })
  yield* Effect.sleep("5 millis")
  yield* Console.log(`within the grace: ${(yield* sweep("1 day", true)).length}`)
  yield* Console.log(`would be deleted: ${(yield* sweep("0 millis", true)).join(", ")}`)
  yield* Console.log(`deleted: ${(yield* sweep("0 millis", false)).join(", ")}`)
  yield* Console.log(`left to delete: ${(yield* sweep("0 millis", false)).length}`)
  const missing = yield* missingDocuments
  yield* Console.log(`events without a document: ${missing.length}, ${missing[0]?.document === lost}`)
  yield* Console.log(`documents: ${yield* objects.count(bucket)}, ${kept.startsWith("acme/2026-1/")}`)
})

const layer = Layer.merge(
  DataStoreFileSystem.layer({ root: path.join(folder, "objects") }),
  EventStoreSqlite.layer({ filename: path.join(folder, "events.db") })
)

Effect.runPromise(Effect.provide(program, layer))
