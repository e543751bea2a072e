/**
 * The SnapshotStore's port on SQLite.
 */
import * as Effect from "effect/Effect"
import type { ReadFailure } from "../../Errors.js"
import { nextAfter, type Pages, pageSize } from "../../internal/pages.js"
import type { StreamId } from "../../StreamId.js"
import type { Encoded, EncodedAddress } from "../../snapshotStore/SnapshotStoreEncoded.js"
import {
  type AddressRow,
  addressFrom,
  addressOf,
  firstAddress,
  fromRow,
  type Row,
  toRow,
  versionBound
} from "../../sql/snapshotRows.js"
import type { StoreAccess } from "../database/access.js"
import { commitFailure } from "../database/connection.js"
import type { Names } from "../database/names.js"
import { makeNote } from "../database/notes.js"
import * as statements from "./statements.js"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const sql = statements.make(names)

  /** Runs one statement and returns how many rows it changed. */
  const change = (operation: string, text: string, params: ReadonlyArray<unknown>) =>
    database.writeGrouped(operation, (connection) => {
      try {
        return connection.prepare(text).run(...params).changes
      } catch (error) {
        throw commitFailure(operation, error)
      }
    })

  const addresses = (after: StreamId): Pages<EncodedAddress, ReadFailure> =>
    Effect.map(
      database.read("addresses", (connection) =>
        (connection.prepare(sql.addresses).all(...addressOf(after), pageSize) as ReadonlyArray<AddressRow>).map(
          addressFrom
        )
      ),
      (items) => nextAfter(items, addresses)
    )

  return {
    save: (snapshot) => Effect.map(change("save", sql.save, toRow(snapshot)), (changes) => changes > 0),

    latest: (stream, atMost) =>
      database.read("latest", (connection) => {
        const row = connection.prepare(sql.latest).get(...addressOf(stream), BigInt(versionBound(atMost)))
        return row === undefined ? null : fromRow(row as Row, stream)
      }),

    replace: ({ checksum, keyId, state, was }) =>
      Effect.map(
        change("replace", sql.replace, [state, keyId, checksum, ...addressOf(was), was.checksum, was.state]),
        (changes) => changes > 0
      ),

    addresses: addresses(firstAddress),

    delete: (stream) => Effect.map(change("delete", sql.delete, addressOf(stream)), (changes) => changes > 0),

    info: database.read("info", (connection) => ({
      backend: "Sqlite",
      connection: database.connection,
      snapshots: (connection.prepare(sql.count).get() as [number])[0]
    })),

    note: makeNote(database, names, "SnapshotStore"),

    reset: Effect.asVoid(change("reset", sql.reset, []))
  }
}
