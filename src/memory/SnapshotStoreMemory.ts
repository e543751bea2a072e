/**
 * The SnapshotStore in memory: for tests, for one process whose aggregates are worth keeping warm, and as the model
 * that the other backends are compared with. It survives nothing but the scope of its `MemoryDatabase`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { InvalidInput } from "../Errors.js"
import { pagesOf } from "../internal/pages.js"
import { SnapshotStore } from "../SnapshotStore.js"
import { streamKey } from "../StreamId.js"
import * as Encoded from "../snapshotStore/SnapshotStoreEncoded.js"
import type { Database } from "./database/Database.js"
import { makeNote } from "./database/notes.js"
import { keepRows } from "./database/Rows.js"
import { storeLayers } from "./database/storeLayers.js"
import type { MemoryDatabase } from "./MemoryDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
}

const port = (database: Database): Encoded.Encoded => {
  const snapshots = keepRows<Encoded.EncodedSnapshot>(database)
  return {
    save: (snapshot) =>
      snapshots.write((rows) => {
        const key = streamKey(snapshot)
        const stored = rows.get(key)
        if (stored !== undefined && stored.version > snapshot.version) return false
        rows.set(key, snapshot)
        return true
      }),
    latest: (stream, atMost) =>
      snapshots.read((rows) => {
        const stored = rows.get(streamKey(stream))
        return stored !== undefined && stored.version <= atMost ? stored : null
      }),
    replace: ({ was, ...payload }) =>
      snapshots.write((rows) => {
        const key = streamKey(was)
        const stored = rows.get(key)
        if (stored === undefined || stored.checksum !== was.checksum || stored.state !== was.state) return false
        rows.set(key, { ...stored, ...payload })
        return true
      }),
    addresses: Effect.flatMap(
      snapshots.read((rows) => [...rows.values()]),
      pagesOf
    ),
    delete: (stream) => snapshots.write((rows) => rows.delete(streamKey(stream))),
    info: snapshots.read((rows) => ({ backend: "InMemory", connection: "memory", snapshots: rows.size })),
    note: makeNote(),
    reset: snapshots.write((rows) => rows.clear())
  }
}

const layers = storeLayers({
  tag: SnapshotStore,
  keys: { readOnly: true },
  options: ({ readOnly }: Options) => Effect.succeed({ system: "memory", readOnly }),
  port,
  lift: Encoded.make
})

/**
 * A port on a database of its own for each call.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: Effect.Effect<Encoded.Encoded> = layers.makeEncoded

/**
 * The SnapshotStore on a database that other stores share, with its transactions. A save in the background is in none
 * of them: it waits for the one that is open, so do not wait for it inside of one (`flush`).
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (options?: Options) => Layer.Layer<SnapshotStore, InvalidInput, MemoryDatabase> =
  layers.layerFromDatabase

/**
 * The SnapshotStore on a database of its own.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (options?: Options) => Layer.Layer<SnapshotStore, InvalidInput> = layers.layer
