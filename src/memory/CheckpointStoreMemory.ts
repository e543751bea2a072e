/**
 * The CheckpointStore in memory: for tests, for read models in memory, and as the model that the other backends are
 * compared with. It survives nothing but the scope of its `MemoryDatabase`. Its leases run on the Clock.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { CheckpointStore } from "../CheckpointStore.js"
import * as Encoded from "../checkpointStore/CheckpointStoreEncoded.js"
import type { InvalidInput, ReadFailure } from "../Errors.js"
import { byBytes, pagesOf } from "../internal/pages.js"
import type { Database } from "./database/Database.js"
import { keepRows, type Rows } from "./database/Rows.js"
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

interface Row extends Omit<Encoded.EncodedCheckpoint, "leaseLeftMs"> {
  readonly leaseEndMs: number
}

const keyOf = ({ generation, name, partition }: Encoded.EncodedPlace): string => `${generation}/${partition}/${name}`

const inOrder = (a: Row, b: Row): number =>
  byBytes(a.name, b.name) || a.generation - b.generation || a.partition - b.partition

const seen = ({ leaseEndMs, ...row }: Row, nowMs: number): Encoded.EncodedCheckpoint => ({
  ...row,
  leaseLeftMs: Math.max(0, leaseEndMs - nowMs)
})

interface Letter extends Encoded.EncodedDeadLetter, Encoded.EncodedFollower {}

const letterKey = ({ generation, name }: Encoded.EncodedFollower, position: number): string =>
  `${generation}/${position}/${name}`

const port = (database: Database): Encoded.Encoded => {
  const checkpoints = keepRows<Row>(database)
  const letters = keepRows<Letter>(database)

  const ofOne = (rows: Pick<ReadonlyMap<string, Letter>, "values">, { generation, name }: Encoded.EncodedFollower) =>
    [...rows.values()]
      .filter((row) => row.name === name && row.generation === generation)
      .sort((a, b) => a.position - b.position)

  /** Both in one transaction, which has its turn as a whole. */
  const both = <A>(self: Effect.Effect<A, ReadFailure>) => database.transaction(self)

  const look = <A>(look: (rows: ReadonlyMap<string, Row>, nowMs: number) => A) =>
    Effect.clockWith((clock) => checkpoints.read((rows) => look(rows, clock.unsafeCurrentTimeMillis())))

  const ofFollower = (rows: Pick<Rows<Row>, "values">, { generation, name }: Encoded.EncodedFollower) =>
    [...rows.values()].filter((row) => row.name === name && row.generation === generation).sort(inOrder)

  /** The row, while this owner has it with this token. */
  const held = (
    rows: Rows<Row>,
    place: Encoded.EncodedPlace & { readonly owner: string; readonly token: number }
  ): Row | undefined => {
    const row = rows.get(keyOf(place))
    return row?.token === place.token && row.owner === place.owner ? row : undefined
  }

  return {
    open: ({ generation, name, partitions }) =>
      checkpoints.write((rows, now) => {
        if (!rows.get(keyOf({ name, generation, partition: 0 }))) {
          for (let partition = 0; partition < partitions; partition++) {
            const place = { name, generation, partition }
            rows.set(keyOf(place), { ...place, partitions, position: 0, owner: null, token: 0, leaseEndMs: 0 })
          }
        }
        return ofFollower(rows, { name, generation }).map((row) => seen(row, now()))
      }),

    claim: ({ leaseMs, owner, takeFrom, ...place }) =>
      checkpoints.write((rows, now) => {
        const row = rows.get(keyOf(place))
        if (row === undefined || (row.leaseEndMs > now() && row.token !== takeFrom)) return null
        const claimed = { ...row, owner, token: row.token + 1, leaseEndMs: now() + leaseMs }
        rows.set(keyOf(place), claimed)
        return seen(claimed, now())
      }),

    renew: ({ leaseMs, ...lease }) =>
      checkpoints.write((rows, now) => {
        const row = held(rows, lease)
        if (row === undefined) return false
        rows.set(
          keyOf(row),
          leaseMs === 0 ? { ...row, owner: null, leaseEndMs: 0 } : { ...row, leaseEndMs: now() + leaseMs }
        )
        return true
      }),

    commit: ({ deadLetters, from, leaseMs, position, settled, ...lease }) => {
      const moved = checkpoints.write((rows, now) => {
        const row = held(rows, lease)
        if (row?.position !== from) return false
        rows.set(keyOf(row), { ...row, position, leaseEndMs: now() + leaseMs })
        return true
      })
      if (deadLetters.length === 0 && settled.length === 0) return moved
      const { generation, name } = lease
      const change = letters.write((rows) => {
        for (const position of settled) rows.delete(letterKey(lease, position))
        for (const letter of deadLetters) rows.set(letterKey(lease, letter.position), { ...letter, name, generation })
      })
      return both(Effect.tap(moved, (isMoved) => (isMoved ? change : Effect.void)))
    },

    deadLetters: (follower) =>
      Effect.flatMap(
        letters.read((rows) => ofOne(rows, follower).map(({ generation: _, name: __, ...letter }) => letter)),
        pagesOf
      ),

    find: (place) =>
      look((rows, nowMs) => {
        const row = rows.get(keyOf(place))
        return row === undefined ? null : seen(row, nowMs)
      }),

    list: ({ generation, name }) =>
      Effect.flatMap(
        look((rows, nowMs) =>
          [...rows.values()]
            .filter((row) => name === null || (row.name === name && (generation ?? row.generation) === row.generation))
            .sort(inOrder)
            .map((row) => seen(row, nowMs))
        ),
        pagesOf
      ),

    delete: (follower) =>
      both(
        Effect.zipRight(
          letters.write((rows) => {
            for (const { position } of ofOne(rows, follower)) rows.delete(letterKey(follower, position))
          }),
          checkpoints.write((rows) => {
            const found = ofFollower(rows, follower)
            for (const row of found) rows.delete(keyOf(row))
            return found.length > 0
          })
        )
      ),

    info: Effect.zipWith(
      checkpoints.read((rows) => rows.size),
      letters.read((rows) => rows.size),
      (checkpoints, deadLetters) => ({ backend: "InMemory", connection: "memory", checkpoints, deadLetters })
    ),

    reset: both(
      Effect.zipRight(
        letters.write((rows) => rows.clear()),
        checkpoints.write((rows) => rows.clear())
      )
    ),

    transaction: database.transaction
  }
}

const layers = storeLayers({
  tag: CheckpointStore,
  keys: { readOnly: true },
  options: ({ readOnly }: Options) => Effect.succeed({ system: "memory", readOnly }),
  port,
  lift: (encoded, options) => Effect.succeed(Encoded.make(encoded, options))
})

/**
 * A port on a database of its own for each call.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: Effect.Effect<Encoded.Encoded> = layers.makeEncoded

/**
 * The CheckpointStore on a database that other stores share, with its transactions.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (options?: Options) => Layer.Layer<CheckpointStore, InvalidInput, MemoryDatabase> =
  layers.layerFromDatabase

/**
 * The CheckpointStore on a database of its own.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (options?: Options) => Layer.Layer<CheckpointStore, InvalidInput> = layers.layer
