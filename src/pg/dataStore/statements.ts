/**
 * The DataStore's statements on PostgreSQL, each in one place, and the rows they give. All are prepared by name, once
 * per connection.
 */
import type Pg from "pg"
import type { ObjectId } from "../../DataStore.js"
import { type Condition, chunkBytes, type EncodedObject } from "../../dataStore/DataStoreEncoded.js"
import {
  columns,
  deletesAtOnce,
  type EntryRow,
  entryColumns,
  fromRow,
  inlineBytes,
  type Placed,
  type Row,
  type StoredRow,
  toRow
} from "../../sql/dataStore.js"
import { preparing, type Statement } from "../database/access.js"
import type { Names } from "../database/names.js"

/** A bytea as text. */
const bytesOf = (text: string): Buffer => Buffer.from(text.slice(2), "hex")

const buffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

export const make = (names: Names) => {
  const objects = names.qualified("objects")
  const rows = names.qualified("object_rows")
  const uploads = names.qualified("object_uploads")
  const buckets = names.qualified("buckets")

  const statement = preparing(names, "object")

  const changed = ({ rowCount }: Pg.QueryResult): number => rowCount ?? 0
  const first = <R>({ rows }: Pg.QueryResult): R | undefined => rows[0]

  const values = "$1, $2, $3, $4::bigint, $5, $6, $7, $8, $9::bigint"
  const assign = `write_id = $3, size = $4::bigint, content_type = $5, metadata = $6, key_id = $7, checksums = $8,
      modified_ms = $9::bigint`
  /** What is in the way of the write, if anything; and the row of the bucket is kept from being deleted meanwhile. */
  const guards = `b as (select 1 from ${buckets} where name = $1 for key share),
    u as (select 1 from ${uploads} where write_id = $3 and $4::bigint > ${chunkBytes} for update)`
  const able = `exists (select from b) and ($4::bigint <= ${chunkBytes} or exists (select from u))`
  const place = (stored: string) => `with ${guards},
    o as (${stored}),
    d as (delete from ${uploads} where write_id = $3 and exists (select from o)),
    r as (insert into ${rows} select $3, 0, $10::bytea from o where $10::bytea is not null)
    select exists (select from b), $4::bigint <= ${chunkBytes} or exists (select from u), exists (select from o),
      (select replaced from o)`
  const insert = `insert into ${objects} (${columns}) select ${values} where ${able} on conflict (bucket, name)`

  const placeTexts = {
    Always: place(`${insert} do update set ${assign} returning xmax <> 0 as replaced`),
    IfAbsent: place(`${insert} do nothing returning false as replaced`),
    IfMatch: place(
      `update ${objects} set ${assign} where bucket = $1 and name = $2 and write_id = $11 and ${able}
       returning true as replaced`
    )
  }

  return {
    begin: (writeId: string, nowMs: number) =>
      statement("begin", "put", "write", `insert into ${uploads} values ($1, $2)`, [writeId, nowMs], () => undefined),

    touch: (writeId: string, nowMs: number) =>
      statement(
        "touch",
        "put",
        "write",
        `update ${uploads} set touched_ms = $2 where write_id = $1`,
        [writeId, nowMs],
        () => undefined
      ),

    addRows: (writeId: string, at: number, pieces: ReadonlyArray<Uint8Array>, nowMs: number) => {
      const list = pieces.map((_, i) => `($3::int + ${i}, $${4 + i}::bytea)`).join(", ")
      return statement(
        `add_${pieces.length}`,
        "put",
        "write",
        `with t as (update ${uploads} set touched_ms = $2 where write_id = $1 returning 1)
         insert into ${rows} select $1, v.n, v.bytes from (values ${list}) v (n, bytes) where exists (select from t)`,
        [writeId, nowMs, at, ...pieces.map(buffer)],
        (result) => changed(result) === pieces.length
      )
    },

    copyRows: (from: string, to: string, at: number, count: number, nowMs: number) =>
      statement(
        "copy",
        "copy",
        "write",
        `with t as (update ${uploads} set touched_ms = $5 where write_id = $2 returning 1)
         insert into ${rows} select $2, n, bytes from ${rows}
         where write_id = $1 and n >= $3 and n < $4 and exists (select from t)`,
        [from, to, at, at + count, nowMs],
        changed
      ),

    place: (object: StoredRow, piece: Uint8Array | null, condition: Condition): Statement<Placed> => {
      const given = [...toRow(object), piece === null ? null : buffer(piece)]
      return statement(
        `place_${condition._tag}`,
        "put",
        "write",
        placeTexts[condition._tag],
        condition._tag === "IfMatch" ? [...given, condition.etag] : given,
        (result): Placed => {
          const [hasBucket, hasRows, isStored, replaced] = first<ReadonlyArray<string | null>>(result) ?? []
          return {
            outcome:
              hasBucket !== "t" ? "NoBucket" : isStored === "t" ? "Stored" : hasRows !== "t" ? "Gone" : "Refused",
            replaced: replaced === "t"
          }
        }
      )
    },

    find: ({ bucket, name }: ObjectId) =>
      statement(
        "find",
        "get",
        "read",
        `select ${columns}, case when size <= ${inlineBytes} then
           (select bytes from ${rows} r where r.write_id = o.write_id and n = 0) end
         from ${objects} o where bucket = $1 and name = $2`,
        [bucket, name],
        (result): { readonly object: EncodedObject; readonly inline: Uint8Array | null } | null => {
          const row = first<ReadonlyArray<unknown>>(result)
          if (row === undefined) return null
          const object = fromRow(row as unknown as Row)
          const bytes = row[9] as string | null
          // An empty object has no rows.
          return { object, inline: object.size === 0 ? new Uint8Array(0) : bytes === null ? null : bytesOf(bytes) }
        }
      ),

    rows: (writeId: string, at: number, count: number) =>
      statement(
        "rows",
        "get",
        "read",
        `select bytes from ${rows} where write_id = $1 and n >= $2 and n < $3 order by n`,
        [writeId, at, at + count],
        (result) => (result.rows as Array<[string]>).map(([bytes]) => bytesOf(bytes))
      ),

    remove: ({ bucket, name }: ObjectId, ifMatch: string | null) =>
      statement(
        "remove",
        "delete",
        "write",
        `delete from ${objects} where bucket = $1 and name = $2 and ($3::text is null or write_id = $3) returning size`,
        [bucket, name, ifMatch],
        (result) => {
          const row = first<[number]>(result)
          return row === undefined ? undefined : row[0] > chunkBytes
        }
      ),

    page: (bucket: string, from: string, isInclusive: boolean, limit: number) =>
      statement(
        isInclusive ? "page_from" : "page_after",
        "list",
        "read",
        `select ${entryColumns} from ${objects} where bucket = $1 and name ${isInclusive ? ">=" : ">"} $2
         order by name limit $3`,
        [bucket, from, limit],
        ({ rows }) => rows as Array<EntryRow>
      ),

    discard: (writeId: string) =>
      statement(
        "discard",
        "put",
        "write",
        `update ${uploads} set touched_ms = 0 where write_id = $1`,
        [writeId],
        () => undefined
      ),

    silent: (untilMs: number) =>
      statement(
        "silent",
        "sweep",
        "read",
        `select write_id from ${uploads} where touched_ms <= $1 limit 100`,
        [untilMs],
        ({ rows }) => (rows as Array<[string]>).map(([writeId]) => writeId)
      ),

    deleteRows: (writeId: string, untilMs: number) =>
      statement(
        "delete_rows",
        "sweep",
        "write",
        `with t as (select from ${uploads} where write_id = $1 and touched_ms <= $2 for update),
         d as (
           delete from ${rows} where (write_id, n) in (
             select write_id, n from ${rows} where write_id = $1 order by n limit ${deletesAtOnce}
           ) and exists (select from t) returning 1
         ),
         e as (
           delete from ${uploads} where write_id = $1 and touched_ms <= $2
             and not exists (select from ${rows} where write_id = $1)
         )
         select exists (select from t), exists (select from d)`,
        [writeId, untilMs],
        (result): "More" | "Gone" | "Alive" => {
          const [isSilent, isDeleted] = first<ReadonlyArray<string>>(result) ?? []
          return isSilent !== "t" ? "Alive" : isDeleted === "t" ? "More" : "Gone"
        }
      ),

    createBucket: (bucket: string, nowMs: number) =>
      statement(
        "create_bucket",
        "buckets.create",
        "write",
        `insert into ${buckets} values ($1, $2) on conflict do nothing`,
        [bucket, nowMs],
        (result) => changed(result) > 0
      ),

    isUsed: (bucket: string) =>
      statement(
        "is_used",
        "buckets.delete",
        "read",
        `select exists (select from ${objects} where bucket = $1)`,
        [bucket],
        (result) => first<[string]>(result)?.[0] === "t"
      ),

    deleteBucket: (bucket: string) =>
      statement(
        "delete_bucket",
        "buckets.delete",
        "write",
        `delete from ${buckets} where name = $1`,
        [bucket],
        (result) => changed(result) > 0
      ),

    bucketExists: (bucket: string) =>
      statement(
        "bucket_exists",
        "buckets.exists",
        "read",
        `select exists (select from ${buckets} where name = $1)`,
        [bucket],
        (result) => first<[string]>(result)?.[0] === "t"
      ),

    buckets: statement("buckets", "buckets.list", "read", `select name, created_ms from ${buckets}`, [], ({ rows }) =>
      (rows as Array<[string, number]>).slice()
    ),

    reset: {
      text: [objects, rows, uploads, buckets].map((table) => `delete from ${table}`).join("; "),
      operation: "reset",
      kind: "write",
      onResult: () => undefined
    } satisfies Statement<void>
  }
}
