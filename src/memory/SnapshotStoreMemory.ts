/**
 * The SnapshotStore in memory: for tests, for one process whose aggregates are worth keeping warm, and as the model that
 * the other backends are held against. It survives nothing but the layer's scope.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { InvalidInput } from "../Errors.js"
import { onlyKnown } from "../internal/storeOptions.js"
import { SnapshotStore } from "../SnapshotStore.js"
import { streamKey } from "../StreamId.js"
import type { Encoded, EncodedSnapshot } from "../snapshotStore/SnapshotStoreEncoded.js"
import { make } from "../snapshotStore/SnapshotStoreEncoded.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
}

/**
 * A port of its own for each call.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: Effect.Effect<Encoded> = Effect.sync(() => {
  const snapshots = new Map<string, EncodedSnapshot>()
  return {
    save: (snapshot) =>
      Effect.sync(() => {
        const key = streamKey(snapshot)
        const stored = snapshots.get(key)
        if (stored !== undefined && stored.version > snapshot.version) return false
        snapshots.set(key, snapshot)
        return true
      }),
    latest: (stream, atMost) =>
      Effect.sync(() => {
        const stored = snapshots.get(streamKey(stream))
        return stored !== undefined && stored.version <= atMost ? stored : null
      }),
    delete: (stream) => Effect.sync(() => snapshots.delete(streamKey(stream))),
    info: Effect.sync(() => ({ backend: "InMemory", connection: "memory", snapshots: snapshots.size })),
    reset: Effect.sync(() => snapshots.clear())
  }
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<SnapshotStore, InvalidInput> =>
  Layer.scoped(
    SnapshotStore,
    Effect.gen(function* () {
      const { readOnly } = yield* onlyKnown(options, { readOnly: true })
      return yield* make(yield* makeEncoded, { system: "memory", readOnly })
    })
  )
