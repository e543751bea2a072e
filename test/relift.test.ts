/**
 * Lifting a service again over its wrapped port: what carries over, and which services can't be.
 */
import { Deferred, Duration, Effect, Exit, Layer, Option, Scope } from "effect"
import {
  CommandStore,
  CommandStoreEncoded,
  EventStore,
  EventStoreEncoded,
  SnapshotStore,
  SnapshotStoreEncoded
} from "effect-stores"
import { CommandStoreMemory, EventStoreMemory, SnapshotStoreMemory } from "effect-stores/memory"
import { describe, expect, it } from "vitest"

const run = <A, E>(
  program: Effect.Effect<
    A,
    E,
    EventStore.EventStore | CommandStore.CommandStore | SnapshotStore.SnapshotStore | Scope.Scope
  >,
  options: { readonly readOnly?: boolean; readonly instanceId?: string } = {}
) =>
  Effect.runPromise(
    Effect.scoped(program).pipe(
      Effect.provide(
        Layer.mergeAll(
          EventStoreMemory.layer(options),
          CommandStoreMemory.layer(options),
          SnapshotStoreMemory.layer({ readOnly: options.readOnly })
        )
      )
    )
  )

const stream = { tenantId: "acme", domain: "order", aggregateId: "1" }
const event = { type: "Placed", data: 1 }
const command = {
  id: "00000000-0000-7000-8000-000000000001",
  tenantId: "acme",
  domain: "order",
  type: "Place",
  data: 1
}
const snapshot = (version: number) => ({
  version,
  lastEventMark: "00000000-0000-0000-0000-000000000001",
  schemaVersion: "1",
  state: version
})

const all = Effect.all({
  events: EventStore.EventStore,
  commands: CommandStore.CommandStore,
  snapshots: SnapshotStore.SnapshotStore
})

describe("a service that is lifted again", () => {
  it("keeps the options that it was lifted with", () =>
    run(
      Effect.gen(function* () {
        const stores = yield* all
        const events = yield* EventStoreEncoded.relift(stores.events, Effect.succeed)
        const commands = yield* CommandStoreEncoded.relift(stores.commands, Effect.succeed)
        yield* events.append(stream, [event], { expected: "any" })
        expect(Option.map((yield* events.info).lastEvent, ({ instanceId }) => instanceId)).toEqual(Option.some("i-1"))
        expect((yield* commands.create(command)).instanceId).toBe("i-1")
      }),
      { instanceId: "i-1" }
    ))

  it("stays read-only", () =>
    run(
      Effect.gen(function* () {
        const stores = yield* all
        const events = yield* EventStoreEncoded.relift(stores.events, Effect.succeed)
        const commands = yield* CommandStoreEncoded.relift(stores.commands, Effect.succeed)
        const snapshots = yield* SnapshotStoreEncoded.relift(stores.snapshots, Effect.succeed)
        const refused = yield* Effect.all([
          Effect.flip(events.append(stream, [event], { expected: "any" })),
          Effect.flip(commands.create(command)),
          Effect.flip(snapshots.save(stream, snapshot(1)))
        ])
        expect(refused.map(({ _tag }) => _tag)).toEqual(["ReadOnly", "ReadOnly", "ReadOnly"])
      }),
      { readOnly: true }
    ))

  it("can be lifted any number of times, each over the one before", () =>
    run(
      Effect.gen(function* () {
        const marked = (mark: string) => (port: EventStoreEncoded.Encoded) =>
          Effect.succeed({
            ...port,
            get: (id: string) =>
              Effect.map(port.get(id), (row) => (row === null ? null : { ...row, type: `${row.type}${mark}` }))
          })
        const { events } = yield* all
        const once = yield* EventStoreEncoded.relift(events, marked("a"))
        const twice = yield* EventStoreEncoded.relift(once, marked("b"))
        yield* twice.append(stream, [{ ...event, id: command.id }], { expected: "any" })
        const typeIn = (store: EventStore.EventStoreShape) =>
          Effect.map(
            store.get(command.id),
            Option.map(({ type }) => type)
          )
        expect(yield* Effect.all([events, once, twice].map(typeIn))).toEqual(
          ["Placed", "Placeda", "Placedab"].map(Option.some)
        )
      })
    ))

  it("has all members of a port that is an instance of a class, its own and those it inherits", () =>
    Effect.runPromise(
      Effect.gen(function* () {
        const inner = yield* EventStoreMemory.makeEncoded
        const { append, get, ...others } = inner
        class Inheriting {
          readonly kept = { append, get }
          append(...args: Parameters<typeof append>) {
            return this.kept.append(...args)
          }
        }
        class Port extends Inheriting {
          get(id: string) {
            return this.kept.get(id)
          }
        }
        const port: EventStoreEncoded.Encoded = Object.assign(new Port(), others)
        const store = EventStoreEncoded.make(port, { system: "mine", pollInterval: Duration.seconds(1) })
        // A wrapper copies what it leaves as it is.
        const again = yield* EventStoreEncoded.relift(store, (encoded) => Effect.succeed({ ...encoded }))
        yield* again.append(stream, [{ ...event, id: command.id }], { expected: "noStream" })
        expect(Option.map(yield* again.get(command.id), ({ type }) => type)).toEqual(Option.some("Placed"))
      })
    ))

  it("passes on what the wrapper fails with", () =>
    run(
      Effect.gen(function* () {
        const stores = yield* all
        const refuse = () => Effect.fail("no key" as const)
        expect(yield* Effect.flip(EventStoreEncoded.relift(stores.events, refuse))).toBe("no key")
        expect(yield* Effect.flip(CommandStoreEncoded.relift(stores.commands, refuse))).toBe("no key")
        expect(yield* Effect.flip(SnapshotStoreEncoded.relift(stores.snapshots, refuse))).toBe("no key")
      })
    ))
})

describe("a service that no lift has made", () => {
  it("is refused, and the error names the store: lifting it would undo what was changed in it", () =>
    run(
      Effect.gen(function* () {
        const stores = yield* all
        // A copy, in which a user has replaced a member.
        const events = { ...stores.events, head: Effect.succeed(0) }
        const commands = { ...stores.commands, get: () => Effect.succeedNone }
        const snapshots = { ...stores.snapshots, latest: () => Effect.succeedNone }
        const errors = yield* Effect.all([
          Effect.flip(EventStoreEncoded.relift(events, Effect.succeed)),
          Effect.flip(CommandStoreEncoded.relift(commands, Effect.succeed)),
          Effect.flip(SnapshotStoreEncoded.relift(snapshots, Effect.succeed))
        ])
        expect(errors.map(({ _tag, what }) => [_tag, what])).toEqual([
          ["InvalidInput", "EventStore"],
          ["InvalidInput", "CommandStore"],
          ["InvalidInput", "SnapshotStore"]
        ])
      })
    ))
})

describe("background saves of a SnapshotStore that is lifted again", () => {
  /** The store in a scope of its own, and the same over a port that marks what it saves, in another. */
  const twoStores = Effect.gen(function* () {
    const inner = yield* Scope.make()
    const outer = yield* Scope.make()
    const encoded = yield* SnapshotStoreMemory.makeEncoded
    const first = yield* Scope.extend(SnapshotStoreEncoded.make(encoded, { system: "memory" }), inner)
    const wrapped = SnapshotStoreEncoded.relift(first, (port) =>
      Effect.succeed({
        ...port,
        save: (row: SnapshotStoreEncoded.EncodedSnapshot) => {
          const marked = { ...row, schemaVersion: "wrapped" }
          return port.save({ ...marked, checksum: SnapshotStoreEncoded.checksum(marked) })
        }
      })
    )
    return { first, second: yield* Scope.extend(wrapped, outer), inner, outer }
  })
  const other = { ...stream, aggregateId: "2" }
  const form = (store: SnapshotStore.SnapshotStoreShape, stream: EventStore.StreamId) =>
    Effect.map(
      store.latest(stream),
      Option.map(({ schemaVersion }) => schemaVersion)
    )

  it("go through the wrapped port", () =>
    Effect.runPromise(
      Effect.gen(function* () {
        const { second } = yield* twoStores
        yield* second.saveInBackground(stream, Effect.succeed(snapshot(1)))
        yield* second.flush(stream)
        expect(yield* form(second, stream)).toEqual(Option.some("wrapped"))
      })
    ))

  it("are its own: each store's end waits for its own saves, and loses none", () =>
    Effect.runPromise(
      Effect.gen(function* () {
        const { first, inner, outer, second } = yield* twoStores
        const held = yield* Deferred.make<void>()
        yield* first.saveInBackground(stream, Effect.as(Deferred.await(held), snapshot(1)))
        yield* second.saveInBackground(other, Effect.as(Effect.yieldNow(), snapshot(1)))
        // The first has a save under way that nothing ends, and the second does not wait for it.
        yield* Scope.close(outer, Exit.void)
        expect(yield* form(first, other)).toEqual(Option.some("wrapped"))
        expect(yield* form(first, stream)).toEqual(Option.none())
        const closing = yield* Effect.fork(Scope.close(inner, Exit.void))
        yield* Deferred.succeed(held, undefined)
        yield* closing
        expect(yield* form(first, stream)).toEqual(Option.some("1"))
      })
    ))
})
