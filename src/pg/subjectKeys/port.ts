/**
 * The port of subjects' keys on PostgreSQL: each member is one statement. The upsert that changes nothing gives the row
 * that is there already, also one that was just committed by another.
 */
import * as Effect from "effect/Effect"
import type Pg from "pg"
import type { Encoded, EncodedSubjectKey } from "../../crypto/SubjectKeysEncoded.js"
import type { ReadFailure } from "../../Errors.js"
import { nextAfter, type Pages, pageSize } from "../../internal/pages.js"
import { columnOf, columns, firstRef, fromRow, type Row, toRow } from "../../sql/subjectKeyRows.js"
import { preparing, type StoreAccess } from "../database/access.js"
import type { Names } from "../database/names.js"
import { note } from "../database/notes.js"

const keysOf = ({ rows }: Pg.QueryResult): ReadonlyArray<EncodedSubjectKey> =>
  (rows as ReadonlyArray<Row>).map((row) => fromRow(row))

const keyOf = (result: Pg.QueryResult): EncodedSubjectKey => keysOf(result)[0] as EncodedSubjectKey

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const keys = names.qualified("subject_keys")
  const prepared = preparing(names, "subject_keys")

  const allAfter = (after: string): Pages<EncodedSubjectKey, ReadFailure> =>
    Effect.map(
      database.run(
        prepared(
          "all",
          "all",
          "read",
          `select ${columns} from ${keys} where ref > $1 order by ref limit ${pageSize}`,
          [after],
          keysOf
        )
      ),
      (items) => nextAfter(items, ({ ref }) => allAfter(ref))
    )

  return {
    find: (by, values) =>
      database.run(
        prepared(
          `find_${columnOf[by]}`,
          "find",
          "read",
          `select ${columns} from ${keys} where ${columnOf[by]} = any ($1::text[])`,
          [values],
          keysOf
        )
      ),

    create: (key) =>
      database.run(
        prepared(
          "create",
          "create",
          "write",
          `insert into ${keys} as kept (${columns}) values ($1, $2, $3, $4, $5, $6)
           on conflict (ref) do update set ref = kept.ref returning ${columns}`,
          toRow(key),
          keyOf
        )
      ),

    shred: ({ keyId, ref, shreddedAt }) =>
      database.run(
        prepared(
          "shred",
          "shred",
          "write",
          `insert into ${keys} as kept (ref, key_id, created_ms, shredded_ms) values ($1, $2, $3, $3)
           on conflict (ref) do update set
             key_id = coalesce(kept.key_id, excluded.key_id),
             wrapped = null,
             wrapped_by = null,
             shredded_ms = coalesce(kept.shredded_ms, excluded.shredded_ms)
           returning ${columns}`,
          [ref, keyId, shreddedAt],
          keyOf
        )
      ),

    rewrap: ({ ref, was, wrapped, wrappedBy }) =>
      database.run(
        prepared(
          "rewrap",
          "rewrap",
          "write",
          `update ${keys} set wrapped = $3, wrapped_by = $4 where ref = $1 and wrapped = $2`,
          [ref, was, wrapped, wrappedBy],
          ({ rowCount }) => rowCount === 1
        )
      ),

    all: allAfter(firstRef),

    count: database.run(
      prepared(
        "count",
        "count",
        "read",
        `select count(*) from ${keys}`,
        [],
        ({ rows }) => (rows[0] as readonly [number])[0]
      )
    ),

    note: (name, value) => database.run(note(names, "SubjectKeys", name, value))
  }
}
