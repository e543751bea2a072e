/**
 * The SnapshotStore's port on PostgreSQL.
 */
import * as Effect from "effect/Effect"
import type { ReadFailure } from "../../Errors.js"
import { nextAfter, type Pages } from "../../internal/pages.js"
import type { StreamId } from "../../StreamId.js"
import type { Encoded, EncodedAddress } from "../../snapshotStore/SnapshotStoreEncoded.js"
import { firstAddress } from "../../sql/snapshotRows.js"
import type { StoreAccess } from "../database/access.js"
import type { Names } from "../database/names.js"
import { note } from "../database/notes.js"
import * as statements from "./statements.js"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const sql = statements.make(names)
  const addresses = (after: StreamId): Pages<EncodedAddress, ReadFailure> =>
    Effect.map(database.run(sql.addresses(after)), (items) => nextAfter(items, addresses))
  return {
    save: (snapshot) => database.writeGrouped(sql.save(snapshot)),
    latest: (stream, atMost) => database.run(sql.latest(stream, atMost)),
    replace: (request) => database.run(sql.replace(request)),
    addresses: addresses(firstAddress),
    delete: (stream) => database.run(sql.delete(stream)),
    info: Effect.map(database.run(sql.count), (snapshots) => ({
      backend: "Pg",
      connection: database.connection,
      snapshots
    })),
    note: (name, value) => database.run(note(names, "SnapshotStore", name, value)),
    reset: database.run(sql.reset)
  }
}
