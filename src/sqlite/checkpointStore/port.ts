/**
 * The CheckpointStore's port on SQLite. Leases run on the clock of the machine, which is the same for all processes
 * that have the file open.
 */
import * as Effect from "effect/Effect"
import type {
  Encoded,
  EncodedCheckpoint,
  EncodedDeadLetter,
  EncodedFollower,
  EncodedPlace
} from "../../checkpointStore/CheckpointStoreEncoded.js"
import type { ReadFailure } from "../../Errors.js"
import { nextAfter, type Pages, pageSize } from "../../internal/pages.js"
import {
  firstPlace,
  fromLetterRow,
  fromRow,
  type LetterRow,
  placeOf,
  type Row,
  toLetterRow
} from "../../sql/checkpointRows.js"
import type { StoreAccess } from "../database/access.js"
import { commitFailure, type StepConnection } from "../database/connection.js"
import type { Names } from "../database/names.js"
import * as statements from "./statements.js"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const sql = statements.make(names)

  /** Runs one statement and returns whether it changed anything. */
  const change = (operation: string, text: string, params: () => ReadonlyArray<unknown>) =>
    database.write(operation, (connection) => {
      try {
        return connection.prepare(text).run(...params()).changes > 0
      } catch (error) {
        throw commitFailure(operation, error)
      }
    })

  /** Runs a step of several statements. */
  const step = <A>(operation: string, step: (connection: StepConnection) => A) =>
    database.write(operation, (connection) => connection.atomically(operation, () => step(connection)))

  const find = (connection: StepConnection, place: EncodedPlace): EncodedCheckpoint | null => {
    const row = connection.prepare(sql.find).get(Date.now(), ...placeOf(place))
    return row === undefined ? null : fromRow(row as Row)
  }

  const ofFollower = (connection: StepConnection, { generation, name }: EncodedFollower) =>
    (connection.prepare(sql.ofFollower).all(Date.now(), name, generation) as ReadonlyArray<Row>).map(fromRow)

  const list = (filter: Parameters<Encoded["list"]>[0], after: EncodedPlace): Pages<EncodedCheckpoint, ReadFailure> =>
    Effect.map(
      database.read("list", (connection) =>
        (
          connection
            .prepare(sql.list)
            .all(Date.now(), ...placeOf(after), filter.name, filter.generation, pageSize) as ReadonlyArray<Row>
        ).map(fromRow)
      ),
      (items) => nextAfter(items, (last) => list(filter, last))
    )

  const letters = (follower: EncodedFollower, after: number): Pages<EncodedDeadLetter, ReadFailure> =>
    Effect.map(
      database.read("deadLetters", (connection) =>
        (
          connection
            .prepare(sql.letters)
            .all(follower.name, follower.generation, after, pageSize) as ReadonlyArray<LetterRow>
        ).map(fromLetterRow)
      ),
      (items) => nextAfter(items, ({ position }) => letters(follower, position))
    )

  return {
    open: ({ partitions, ...follower }) =>
      database.write("open", (connection) => {
        const found = ofFollower(connection, follower)
        if (found.length > 0) return found
        return connection.atomically("open", () => {
          if (find(connection, { ...follower, partition: 0 }) === null) {
            const insert = connection.prepare(sql.insert)
            for (let partition = 0; partition < partitions; partition++) {
              insert.run(...placeOf({ ...follower, partition }), partitions)
            }
          }
          return ofFollower(connection, follower)
        })
      }),

    claim: ({ leaseMs, owner, takeFrom, ...place }) =>
      database.write("claim", (connection) => {
        // Standby processes look often, and need no lock to see that somebody is at work.
        const found = find(connection, place)
        if (found === null || (found.leaseLeftMs > 0 && found.token !== takeFrom)) return null
        return connection.atomically("claim", () => {
          const nowMs = Date.now()
          const params = [owner, nowMs + leaseMs, ...placeOf(place), nowMs, takeFrom]
          return connection.prepare(sql.claim).run(...params).changes > 0 ? find(connection, place) : null
        })
      }),

    renew: ({ leaseMs, owner, token, ...place }) =>
      leaseMs === 0
        ? change("release", sql.release, () => [...placeOf(place), token, owner])
        : change("renew", sql.renew, () => [Date.now() + leaseMs, ...placeOf(place), token, owner]),

    commit: ({ deadLetters, from, leaseMs, owner, position, settled, token, ...place }) => {
      const params = () => [position, Date.now() + leaseMs, ...placeOf(place), token, owner, from]
      if (deadLetters.length === 0 && settled.length === 0) return change("commit", sql.commit, params)
      return step("commit", (connection) => {
        if (connection.prepare(sql.commit).run(...params()).changes === 0) return false
        const { generation, name } = place
        for (const at of settled) connection.prepare(sql.settle).run(name, generation, at)
        for (const letter of deadLetters) connection.prepare(sql.record).run(name, generation, ...toLetterRow(letter))
        return true
      })
    },

    deadLetters: (follower) => letters(follower, 0),

    find: (place) => database.read("find", (connection) => find(connection, place)),

    list: (filter) => list(filter, firstPlace),

    delete: ({ generation, name }) =>
      step("delete", (connection) => {
        connection.prepare(sql.deleteLetters).run(name, generation)
        return connection.prepare(sql.delete).run(name, generation).changes > 0
      }),

    info: database.read("info", (connection) => {
      const [checkpoints, deadLetters] = connection.prepare(sql.count).get() as [number, number]
      return { backend: "Sqlite", connection: database.connection, checkpoints, deadLetters }
    }),

    reset: step("reset", (connection) => {
      connection.prepare(sql.resetLetters).run()
      connection.prepare(sql.reset).run()
    }),

    transaction: database.transaction
  }
}
