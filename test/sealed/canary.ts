/**
 * A canary: records with a random marker go through stores, and then everything that can be looked at is searched for
 * the marker, and for the key, in any spelling.
 */
import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { inspect } from "node:util"
import { Cause, Context, Effect, Exit, Layer, Logger, LogLevel, Option, Stream } from "effect"
import { CacheStore, CommandStore, CryptoService, DataStore, EventStore, SnapshotStore } from "effect-stores"
import { keyBytesOf, ringOf } from "../crypto/fixtures.js"
import { isFull } from "../support/scale.js"
import { recording } from "../support/tracing.js"

const records = isFull ? 1_000 : 100

/** What can be read of a text: named, and its bytes. */
export type Seen = readonly [where: string, bytes: Buffer]

/** Of a folder, every file. Files may go while it is read. */
export const filesIn = (folder: string): ReadonlyArray<Seen> =>
  fs.readdirSync(folder, { recursive: true, withFileTypes: true }).flatMap((entry): ReadonlyArray<Seen> => {
    if (!entry.isFile()) return []
    const file = path.join(entry.parentPath, entry.name)
    try {
      return [[file, fs.readFileSync(file)]]
    } catch {
      return []
    }
  })

/** Bytes as text that encodes three at a time, wherever they begin in it. */
const inBase64 = (bytes: Buffer, encoding: "base64" | "base64url"): ReadonlyArray<string> =>
  [0, 1, 2].map((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString(encoding)
      .replaceAll("=", "")
    return text.slice(shift === 0 ? 0 : 4, -3)
  })

const spellingsOf = (bytes: Buffer): ReadonlyArray<Buffer> => {
  const decimals = [...bytes]
  const hex = bytes.toString("hex")
  const texts = [
    hex,
    hex.toUpperCase(),
    hex.replace(/..(?!$)/g, "$& "),
    ...inBase64(bytes, "base64"),
    ...inBase64(bytes, "base64url"),
    decimals.join(","),
    decimals.join(", ")
  ]
  return [bytes, ...texts.map((text) => Buffer.from(text))]
}

const idOf = (n: number) => `00000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`
const mark = "00000000-0000-7000-8000-00000000000f"

const range = Array.from({ length: records }, (_, i) => i)

/** What an application does with the stores that are there; gives what it can show of them. */
const used = (marker: string) =>
  Effect.gen(function* () {
    const shown: Array<unknown> = []
    const failed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.map(Effect.exit(effect), (exit) => {
        if (Exit.isFailure(exit)) shown.push(exit.cause, Cause.squash(exit.cause), Cause.pretty(exit.cause))
      })
    const services: Context.Context<never> = yield* Effect.context<never>()
    shown.push(services)
    const events = Context.getOption(services, EventStore.EventStore)
    if (Option.isSome(events)) {
      const store = events.value
      shown.push(store)
      for (const i of range) {
        const stream = { tenantId: "acme", domain: "Account", aggregateId: `a-${i}` }
        const event = { id: idOf(i + 1), type: "Happened", data: { marker }, metadata: { marker } }
        yield* store.append(stream, [event], { expected: i % 2 === 0 ? "any" : "noStream" })
        if (i < 10) yield* failed(store.append(stream, [{ type: "Other", data: { marker } }], { expected: "noStream" }))
        if (i < 10) yield* failed(store.append(stream, [{ ...event, data: marker }], { expected: "any" }))
      }
      yield* store.maintenance.update(idOf(1), { data: { marker, again: true } })
      yield* Stream.runDrain(store.feed())
    }
    const commands = Context.getOption(services, CommandStore.CommandStore)
    if (Option.isSome(commands)) {
      const store = commands.value
      shown.push(store)
      for (const i of range) {
        const command = { id: idOf(i + 1), tenantId: "acme", domain: "Account", type: "Do", data: marker }
        yield* store.create({ ...command, metadata: { marker } })
        yield* store.update(command.id, { status: "succeeded", outcome: { marker } })
      }
    }
    const snapshots = Context.getOption(services, SnapshotStore.SnapshotStore)
    if (Option.isSome(snapshots)) {
      const store = snapshots.value
      shown.push(store)
      const state = { text: marker, list: Array.from({ length: 20 }, () => marker) }
      for (const i of range)
        yield* store.save(
          { tenantId: "acme", domain: "Account", aggregateId: `a-${i}` },
          { version: 1, lastEventMark: mark, schemaVersion: "1", state }
        )
    }
    const cache = Context.getOption(services, CacheStore.CacheStore)
    if (Option.isSome(cache)) {
      const store = cache.value
      shown.push(store)
      for (const i of range) {
        yield* store.set("acme", `set-${i}`, { marker }, { ttl: "1 hour", tags: ["t"] })
        yield* store.getOrSet("acme", `loaded-${i}`, Effect.succeed(marker), { ttl: "1 hour" })
      }
      yield* store.setMany("acme", [{ key: "many", value: marker }], { ttl: "1 hour" })
      yield* store.setIfAbsent("acme", "absent", marker, { ttl: "1 hour" })
    }
    const objects = Context.getOption(services, DataStore.DataStore)
    if (Option.isSome(objects)) {
      const store = objects.value
      shown.push(store)
      yield* store.buckets.create("canary")
      for (const i of range) {
        const id = { bucket: "canary", name: `o-${i}` }
        yield* store.put(id, Buffer.from(marker), { metadata: { marker } })
        if (i < 5) yield* store.copy(id, { ...id, name: `copy-${i}` })
        if (i < 5) yield* failed(store.put(id, Buffer.from(marker), { size: 1, metadata: { marker } }))
        if (i < 5) yield* failed(store.copy(id, { bucket: "nowhere", name: "o" }))
      }
      const large = Stream.take(Stream.repeatValue(Buffer.from(marker.repeat(1_000))), 40)
      yield* store.put({ bucket: "canary", name: "large" }, large)
      // What is left of it in a temporary place, if anything.
      const broken = Stream.concat(large, Stream.fail("broken" as const))
      yield* failed(store.put({ bucket: "canary", name: "broken" }, broken))
    }
    return shown
  })

/** What fails when the keys are others, and what that shows. */
const unreadable = Effect.gen(function* () {
  const shown: Array<unknown> = []
  const services: Context.Context<never> = yield* Effect.context<never>()
  const tried = <S, A, E>(tag: Context.Tag<S, A>, use: (store: A) => Effect.Effect<unknown, E>) =>
    Option.match(Context.getOption(services, tag), {
      onNone: () => Effect.void,
      onSome: (store) =>
        Effect.map(Effect.exit(use(store)), (exit) => {
          assert.ok(Exit.isFailure(exit), `${tag.key} reads without its key`)
          shown.push(exit.cause, Cause.squash(exit.cause), Cause.pretty(exit.cause))
        })
    })
  yield* tried(EventStore.EventStore, (store) => store.get(idOf(1)))
  yield* tried(CommandStore.CommandStore, (store) => store.get(idOf(1)))
  yield* tried(SnapshotStore.SnapshotStore, (store) =>
    store.latest({ tenantId: "acme", domain: "Account", aggregateId: "a-1" })
  )
  yield* tried(CacheStore.CacheStore, (store) => Effect.flatten(store.get("acme", "set-1")))
  yield* tried(DataStore.DataStore, (store) => store.get({ bucket: "canary", name: "o-1" }))
  return shown
})

/** Runs with everything that can be observed: log lines of all levels, and spans. */
const observed = async <E>(program: Effect.Effect<ReadonlyArray<unknown>, E>, spansMin: number) => {
  const seen: Array<Seen> = []
  const add = (where: string, value: unknown) => {
    let json: string | undefined
    try {
      json = JSON.stringify(value)
    } catch {}
    for (const text of [inspect(value, { depth: 12, showHidden: true }), json ?? "", String(value)])
      seen.push([where, Buffer.from(text)])
  }
  const logger = Logger.make(({ annotations, cause, message, spans }) =>
    add("a log line", [message, cause, [...annotations], [...spans]])
  )
  const { spans, tracer } = recording()
  const whole = Effect.gen(function* () {
    const shown = yield* Effect.withTracer(program, tracer)
    yield* Effect.logError("what an application logs", ...shown)
    return shown
  })
  const shown = await Effect.runPromise(
    whole.pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)), Logger.withMinimumLogLevel(LogLevel.All))
  )
  for (const value of shown) add("a service or an error", value)
  for (const { attributes, links, name, status } of spans) {
    // What a span has returned stays in the process; what it has failed with is exported.
    const cause = status._tag === "Ended" && Exit.isFailure(status.exit) ? status.exit.cause : undefined
    add("a span", [name, [...attributes], links, cause])
  }
  assert.ok(spans.length >= spansMin)
  return seen
}

export interface Places {
  /** Everything that the backend has stored, as bytes. */
  readonly stored?: () => Promise<ReadonlyArray<Seen>>
}

const hits = (seen: ReadonlyArray<Seen>, secret: Buffer): ReadonlyArray<string> => {
  const spellings = spellingsOf(secret)
  return seen.filter(([, bytes]) => spellings.some((text) => bytes.includes(text))).map(([where]) => where)
}

/** Puts records through the stores of a layer, sealed, and searches everything that there is to see. */
export const canary = async <A, E>(layer: Layer.Layer<A, E>, { stored = async () => [] }: Places): Promise<void> => {
  const keyed = (primary: string) => layer.pipe(CryptoService.seal, Layer.provide(CryptoService.layer(ringOf(primary))))
  const marker = randomBytes(24)
  const seen = [
    ...(await observed(Effect.provide(used(marker.toString("hex")), keyed("k1")), records)),
    ...(await observed(Effect.provide(unreadable, keyed("k2")), 1)),
    ...(await stored())
  ]
  assert.deepEqual(hits(seen, Buffer.from(marker.toString("hex"))), [])
  assert.deepEqual(hits(seen, marker), [])
  for (const name of ["k1", "k2"]) assert.deepEqual(hits(seen, keyBytesOf(name)), [])
}

/** The same with stores that are not sealed: a search that finds nothing there either would prove nothing. */
export const control = async <A, E>(layer: Layer.Layer<A, E>, { stored = async () => [] }: Places): Promise<void> => {
  const marker = randomBytes(24).toString("hex")
  await observed(Effect.provide(used(marker), layer), records)
  assert.notDeepEqual(hits(await stored(), Buffer.from(marker)), [])
}
