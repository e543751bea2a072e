/**
 * A tour over all members of all stores, whatever backend they are on: to see what they show, and what they ask of a
 * database.
 */
import { DateTime, Effect, Schema, Stream } from "effect"
import { CacheStore, CheckpointStore, CommandStore, DataStore, EventStore, SnapshotStore } from "effect-stores"
import { filtered } from "./filtered.js"

/** What is done with each member. A forgotten one does not compile. */
export type Tour<Service, R = never> = { readonly [K in keyof Service]: Effect.Effect<unknown, unknown, R> }

export const take = <R = never>(
  tour: Readonly<Record<string, Effect.Effect<unknown, unknown, R>>>
): Effect.Effect<void, never, R> => Effect.forEach(Object.values(tour), (step) => Effect.exit(step), { discard: true })

export const stream = { tenantId: "t", domain: "order", aggregateId: "a" }
export const filter = { domain: "order", types: ["Placed"] }
export const event = { type: "Placed", data: 1 }
export const id = "01890a5d-ac96-774b-bcce-b302099a8057"

export const events = Effect.flatMap(EventStore.EventStore, (store) => {
  const other = { ...stream, aggregateId: "b" }
  return take({
    append: Effect.zip(
      store.append(stream, [event, event], { expected: "any" }),
      store.append(stream, [event], { expected: 7 })
    ),
    appendAll: Effect.zip(
      store.appendAll([
        { stream, events: [event], expected: "any" },
        { stream: other, events: [event], expected: "any" }
      ]),
      store.appendAll([{ stream: other, events: [event], expected: 7 }])
    ),
    read: Stream.runDrain(store.read(stream)),
    fold: store.fold(stream, 0, (n) => n + 1),
    version: store.version(stream),
    feed: Stream.runDrain(store.feed({ filter })),
    subscribe: Stream.runDrain(store.subscribe({ filter, limit: 1 })),
    follow: Stream.runDrain(store.follow({ filter, limit: 1 })),
    head: store.head,
    get: store.get(id),
    page: store.page(),
    distinct: Stream.runDrain(store.distinct("type")),
    count: store.count(),
    info: store.info,
    maintenance: take({
      update: store.maintenance.update(id, { data: 1 }),
      deleteStream: store.maintenance.deleteStream(stream),
      reset: store.maintenance.reset
    } satisfies Tour<EventStore.Maintenance>)
  } satisfies Tour<EventStore.EventStoreShape>)
})

export const commands = Effect.flatMap(CommandStore.CommandStore, (store) => {
  const command = { id, tenantId: "t", domain: "order", type: "Place", data: 1 }
  return take({
    create: store.create({ ...command, id: id.replace(/7$/, "8") }),
    execute: store.execute(command, Effect.succeed(1), { success: Schema.Number }),
    cancel: store.cancel(id),
    get: store.get(id),
    list: Stream.runDrain(store.list({ filter: { domain: "order", types: ["Place"] } })),
    page: store.page(),
    distinct: Stream.runDrain(store.distinct("type")),
    count: store.count(),
    info: store.info,
    update: store.update(id, { metadata: {} }),
    delete: store.delete(id),
    prune: store.prune({ createdUntil: DateTime.unsafeMake(0) }),
    reset: store.reset
  } satisfies Tour<CommandStore.CommandStoreShape>)
})

export const snapshots = Effect.flatMap(SnapshotStore.SnapshotStore, (store) => {
  const snapshot = { version: 1, lastEventMark: id, schemaVersion: "1", state: 1 }
  return take({
    save: store.save(stream, snapshot),
    saveInBackground: store.saveInBackground(stream, Effect.succeed(snapshot)),
    flush: store.flush(stream),
    latest: store.latest(stream),
    delete: store.delete(stream),
    info: store.info,
    reset: store.reset
  } satisfies Tour<SnapshotStore.SnapshotStoreShape>)
})

export const cache = Effect.flatMap(CacheStore.CacheStore, (store) =>
  take<CacheStore.CacheStore>({
    set: store.set("t", "k", "text"),
    get: Effect.zip(store.get("t", "k"), CacheStore.forSchema(Schema.Number).get("t", "k")),
    getMany: store.getMany("t", ["k"]),
    // The layer holds one entry, so each puts another out.
    setMany: store.setMany("t", [
      { key: "a", value: 1 },
      { key: "b", value: 1 }
    ]),
    setIfAbsent: store.setIfAbsent("t", "k", 1),
    touch: store.touch("t", "k", "1 minute"),
    delete: store.delete("t", "k"),
    deleteMany: store.deleteMany("t", ["k"]),
    invalidate: store.invalidate("t", { keys: ["k"] }),
    expire: store.expire("t", { keys: ["k"] }),
    getOrSet: store.getOrSet("t", "k", Effect.succeed(1)),
    getOrSetMany: store.getOrSetMany("t", ["k"], () => Effect.succeed(new Map())),
    list: Stream.runDrain(store.list("t")),
    count: store.count("t"),
    clear: store.clear("t"),
    info: store.info,
    reset: store.reset
  } satisfies Tour<CacheStore.CacheStoreShape, CacheStore.CacheStore>)
)

export const objects = Effect.flatMap(DataStore.DataStore, (store) => {
  const object = { bucket: "bucket", name: "a" }
  const target = { bucket: "bucket", name: "b" }
  return take({
    capabilities: Effect.void,
    buckets: take({
      create: store.buckets.create("bucket"),
      exists: store.buckets.exists("bucket"),
      list: store.buckets.list,
      delete: store.buckets.delete("other-bucket")
    } satisfies Tour<DataStore.Buckets>),
    put: store.put(object, new Uint8Array(1)),
    get: store.get(object),
    getRange: store.getRange(object, { offset: 0 }),
    head: store.head(object),
    copy: store.copy(object, target),
    move: store.move(object, target),
    delete: store.delete(target),
    deleteMany: store.deleteMany("bucket", ["a"]),
    list: Stream.runDrain(store.list("bucket")),
    count: store.count("bucket"),
    presign: take({
      get: store.presign.get(object),
      put: store.presign.put(object)
    } satisfies Tour<DataStore.Presign>),
    info: store.info,
    sweep: store.sweep(),
    reset: store.reset
  } satisfies Tour<DataStore.DataStoreShape>)
})

export const checkpoints = Effect.flatMap(CheckpointStore.CheckpointStore, (store) => {
  const follower = { name: "follower", generation: 1 }
  const taken = (takeFrom: number) => Effect.flatten(store.claim(follower, { owner: "one", takeFrom }))
  return take({
    open: store.open(follower),
    claim: store.claim(follower, { owner: "one" }),
    renew: Effect.flatMap(taken(1), store.renew),
    commit: Effect.flatMap(taken(2), (lease) => store.commit(lease, 1)),
    release: Effect.flatMap(taken(3), store.release),
    list: Stream.runDrain(store.list()),
    deadLetters: Stream.runDrain(store.deadLetters(follower)),
    delete: store.delete(follower),
    transaction: store.transaction(Effect.void),
    info: store.info,
    reset: store.reset
  } satisfies Tour<CheckpointStore.CheckpointStoreShape>)
})

/** Over all of them. */
export const everything = Effect.all([filtered, events, commands, snapshots, cache, objects, checkpoints])
