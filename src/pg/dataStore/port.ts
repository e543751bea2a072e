/**
 * The DataStore's port on PostgreSQL.
 */
import * as Effect from "effect/Effect"
import type { Encoded } from "../../dataStore/DataStoreEncoded.js"
import { make as makePort } from "../../sql/dataStore.js"
import type { StoreAccess } from "../database/access.js"
import type { Names } from "../database/names.js"
import { note } from "../database/notes.js"
import * as statements from "./statements.js"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => {
    const sql = statements.make(names)
    return makePort("Pg", database.connection, {
      rowsAtOnce: 4,
      begin: (writeId, nowMs) => database.run(sql.begin(writeId, nowMs)),
      touch: (writeId, nowMs) => database.run(sql.touch(writeId, nowMs)),
      addRows: (writeId, at, pieces, nowMs) => database.run(sql.addRows(writeId, at, pieces, nowMs)),
      copyRows: (from, to, at, count, nowMs) => database.run(sql.copyRows(from, to, at, count, nowMs)),
      place: (object, piece, condition) => database.run(sql.place(object, object.size === 0 ? null : piece, condition)),
      find: (id) => database.run(sql.find(id)),
      rows: (writeId, at, count) => database.run(sql.rows(writeId, at, count)),
      remove: (id, ifMatch) => database.run(sql.remove(id, ifMatch)),
      page: (bucket, from, isInclusive, limit) => database.run(sql.page(bucket, from, isInclusive, limit)),
      discard: (writeId) => database.run(sql.discard(writeId)),
      silent: (untilMs) => database.run(sql.silent(untilMs)),
      deleteRows: (writeId, untilMs) => database.run(sql.deleteRows(writeId, untilMs)),
      createBucket: (bucket, nowMs) => database.run(sql.createBucket(bucket, nowMs)),
      // The foreign key decides; a failed statement would spoil a transaction of the caller's, so it is looked first.
      deleteBucket: (bucket) =>
        Effect.flatMap(database.run(sql.isUsed(bucket)), (isUsed) =>
          isUsed
            ? Effect.succeed("NotEmpty" as const)
            : Effect.catchTag(database.run(sql.deleteBucket(bucket)), "StoreError", (error) =>
                (error.cause as { readonly code?: unknown } | undefined)?.code === "23503"
                  ? Effect.succeed("NotEmpty" as const)
                  : Effect.fail(error)
              )
        ),
      bucketExists: (bucket) => database.run(sql.bucketExists(bucket)),
      buckets: database.run(sql.buckets),
      note: (name, value) => database.run(note(names, "DataStore", name, value)),
      reset: database.run(sql.reset)
    })
  })
