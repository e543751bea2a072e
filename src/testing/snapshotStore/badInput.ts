/**
 * The property of bad input on the SnapshotStore: its operations, and what they must answer.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { isDeepStrictEqual } from "node:util"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { StreamId } from "../../EventStore.js"
import type { NewSnapshot, Snapshot, SnapshotStoreShape } from "../../SnapshotStore.js"
import { SnapshotStore } from "../../SnapshotStore.js"
import type { At, Operation } from "../hostileCalls.js"
import { copy, hostileCalls, isSteady, operationsOf, same, streamArg } from "../hostileCalls.js"
import type { PropertyOptions } from "../suite.js"
import { isEnough } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshStream, newSnapshot, plain, quietly } from "./fixtures.js"

interface World {
  readonly store: SnapshotStoreShape
  /** Has a snapshot of version 5, which no case may change. */
  readonly fixture: StreamId
  /** The streams that have a snapshot, with it: names may come again. */
  readonly live: Map<string, ReturnType<typeof plain>>
  /** How many were saved in the background. */
  inBackground: number
}

const operation = operationsOf<World>({
  store: SnapshotStore.of({} as SnapshotStoreShape),
  fixture: freshStream(),
  live: new Map(),
  inBackground: 0
})

const snapshotArg = (at: At, name: string): NewSnapshot => {
  const misspelt = at<unknown>(`${name}.schemaversion`, undefined)
  return at(name, {
    ...(misspelt === undefined ? {} : { schemaversion: misspelt }),
    version: at(`${name}.version`, 3),
    lastEventMark: at(`${name}.lastEventMark`, randomUUID()),
    schemaVersion: at(`${name}.schemaVersion`, "1"),
    state: at<unknown>(`${name}.state`, { list: [0, at<unknown>(`${name}.state.list[1]`, 1)] }),
    createdAt: at<DateTime.Utc | undefined>(`${name}.createdAt`, DateTime.unsafeMake(1))
  })
}

const keyOf = ({ aggregateId, domain, tenantId }: StreamId): string => JSON.stringify([tenantId, domain, aggregateId])

const assertStored = (stored: Snapshot, stream: StreamId, given: NewSnapshot): void => {
  same([stored.tenantId, stored.domain, stored.aggregateId], [stream.tenantId, stream.domain, stream.aggregateId], "id")
  assert.ok(!Object.keys(given).includes("schemaversion"), "a misspelt key was left out silently")
  const { createdAt, lastEventMark, schemaVersion, state, version } = given
  same([stored.version, stored.lastEventMark, stored.schemaVersion], [version, lastEventMark, schemaVersion], "a field")
  if (createdAt !== undefined) same(stored.createdAt.epochMillis, createdAt.epochMillis, "createdAt")
  if (isSteady(state)) same(stored.state, copy(state), "state")
  assert.ok(!("polluted" in stored) && !("polluted" in {}), "a prototype was polluted")
}

const operations: Readonly<Record<string, Operation<World>>> = {
  save: operation({
    args: (at) => ({ stream: streamArg(at, "stream", freshStream()), snapshot: snapshotArg(at, "snapshot") }),
    run: (store, { snapshot, stream }) => store.save(stream, snapshot),
    check: ({ live, store }, { snapshot, stream }, kept) =>
      Effect.map(store.latest(stream), (found) => {
        const stored = Option.getOrThrow(found)
        if (kept) assertStored(stored, stream, snapshot)
        else assert.deepEqual(plain(stored), live.get(keyOf(stream)))
        live.set(keyOf(stream), plain(stored))
      })
  }),

  saveInBackground: operation({
    args: (at) => ({
      stream: streamArg(at, "stream", freshStream()),
      snapshot: snapshotArg(at, "snapshot"),
      effect: at<Effect.Effect<NewSnapshot> | undefined>("effect", undefined),
      options: at("options", { replace: at("options.replace", false) })
    }),
    run: (store, { effect, options, snapshot, stream }) =>
      Effect.zipRight(
        store.saveInBackground(stream, effect === undefined ? Effect.succeed(snapshot) : effect, options),
        store.flush(stream)
      ).pipe(quietly),
    check: (world, { options, snapshot, stream }) =>
      // Where the stream was none, there is nothing to look for.
      Effect.map(Effect.option(world.store.latest(stream)), (latest) => {
        if (Option.isNone(latest)) return
        const known = world.live.get(keyOf(stream))
        const found = Option.getOrUndefined(latest.value)
        if (found === undefined) {
          assert.ok(known === undefined || options?.replace === true)
          world.live.delete(keyOf(stream))
        } else if (!isDeepStrictEqual(plain(found), known)) {
          assertStored(found, stream, snapshot)
          world.live.set(keyOf(stream), plain(found))
          world.inBackground++
        }
      })
  }),

  latest: operation({
    args: (at, { fixture }) => ({
      stream: streamArg(at, "stream", fixture),
      options: at("options", { atMost: at<number | undefined>("options.atMost", 5) })
    }),
    run: (store, { options, stream }) => store.latest(stream, options),
    check: ({ fixture }, { options, stream }, found) =>
      Effect.sync(() => {
        const atMost = options?.atMost ?? Number.POSITIVE_INFINITY
        if (Option.isSome(found)) {
          same(found.value.aggregateId, stream.aggregateId, "the stream of a snapshot")
          assert.ok(found.value.version <= atMost)
        } else {
          assert.ok(keyOf(stream) !== keyOf(fixture) || atMost < 5)
        }
      })
  }),

  delete: operation({
    args: (at) => ({ stream: streamArg(at, "stream", freshStream()) }),
    run: (store, { stream }) => store.delete(stream),
    check: ({ live, store }, { stream }, deleted) =>
      Effect.map(store.latest(stream), (found) => {
        assert.ok(Option.isNone(found))
        assert.equal(deleted, live.delete(keyOf(stream)))
      })
  }),

  flush: operation({
    args: (at) => ({ stream: streamArg(at, "stream", freshStream()) }),
    run: (store, { stream }) => store.flush(stream),
    check: () => Effect.void
  })
}

export const badInput = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} calls with hostile values fail typed and change nothing, or are answered rightly`, () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const { snapshots } = yield* store.info
      const fixture = freshStream()
      yield* store.save(fixture, newSnapshot(5))
      const stored = plain(Option.getOrThrow(yield* store.latest(fixture)))
      const world: World = { store, fixture, live: new Map([[keyOf(fixture), stored]]), inBackground: 0 }
      yield* hostileCalls(options, {
        operations,
        weightOf: (name) => (name.startsWith("save") ? 10 : name === "flush" ? 1 : 5),
        world,
        state: Effect.map(store.latest(fixture), Option.map(plain)),
        documented: ["InvalidInput"]
      })
      // What failed left nothing behind anywhere.
      assert.equal((yield* store.info).snapshots - snapshots, world.live.size)
      assert.ok(
        isEnough(world.inBackground, { of: options.runs, share: 1 / 50, usual: 10_000 }),
        `${world.inBackground} in the background`
      )
    }))
}
