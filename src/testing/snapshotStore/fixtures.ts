/**
 * Generators of what the SnapshotStore's tests save, and comparisons of what they read. Every test has streams of its
 * own instead of cleaning up.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import type { StreamId } from "../../EventStore.js"
import type { NewSnapshot, Snapshot } from "../../SnapshotStore.js"
import { SnapshotStore } from "../../SnapshotStore.js"
import type { Test as AnyTest } from "../suite.js"

export { freshStream, freshTenant, streamOf } from "../eventStore/fixtures.js"

export type Test = AnyTest<SnapshotStore>

let count = 0

export const newSnapshot = (version: number, fields: Partial<NewSnapshot> = {}): NewSnapshot => ({
  version,
  lastEventMark: randomUUID(),
  schemaVersion: "1",
  state: { n: ++count },
  createdAt: DateTime.unsafeMake(1_700_000_000_000 + count),
  ...fields
})

/** A snapshot in a form that is compared by value: a DateTime computes parts of itself when it is looked at. */
export const plain = (snapshot: Snapshot) => ({ ...snapshot, createdAt: snapshot.createdAt.epochMillis })

export const latestVersion = (stream: StreamId, options?: { readonly atMost?: number | undefined }) =>
  Effect.flatMap(SnapshotStore, (store) =>
    Effect.map(store.latest(stream, options), (found) => Option.getOrUndefined(found)?.version)
  )

/** The snapshot of the stream is this one, in every field; or there is none. */
export const assertLatest = (stream: StreamId, given: NewSnapshot | undefined) =>
  Effect.flatMap(SnapshotStore, (store) =>
    Effect.map(store.latest(stream), (found) =>
      assert.deepEqual(
        Option.getOrUndefined(Option.map(found, plain)),
        given === undefined ? undefined : { ...stream, ...given, createdAt: given.createdAt?.epochMillis }
      )
    )
  )

/** For saves in the background that are to fail: their warnings would only fill the report of a run. */
export const quietly = Logger.withMinimumLogLevel(LogLevel.None)

/** So many turns of the event loop, in which drivers and servers go on. */
export const turns = (count: number): Effect.Effect<void> =>
  count <= 0 ? Effect.void : Effect.zipRight(turn, turns(count - 1))

const turn = Effect.async<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})
