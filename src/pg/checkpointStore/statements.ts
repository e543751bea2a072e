/**
 * The CheckpointStore's statements on PostgreSQL, each in one place. All are prepared by name, once per connection.
 */
import type Pg from "pg"
import type {
  Encoded,
  EncodedCheckpoint,
  EncodedFollower,
  EncodedPlace
} from "../../checkpointStore/CheckpointStoreEncoded.js"
import { pageSize } from "../../internal/pages.js"
import {
  columns,
  fromLetterRow,
  fromRow,
  type LetterRow,
  letterColumns,
  place,
  placeOf,
  type Row,
  toLetterRow
} from "../../sql/checkpointRows.js"
import { preparing, type Statement } from "../database/access.js"
import type { Names } from "../database/names.js"

type Request<K extends keyof Encoded> = Encoded[K] extends (request: infer A) => unknown ? A : never

const nowMs = "(extract(epoch from clock_timestamp()) * 1000)::bigint"

const selected = `${columns}, greatest(0, lease_end_ms - ${nowMs})`
const ofPlace = `(${place}) = ($1, $2, $3)`
const held = `${ofPlace} and token = $4 and owner = $5`

const all = ({ rows }: Pg.QueryResult): ReadonlyArray<EncodedCheckpoint> =>
  (rows as ReadonlyArray<Row>).map((row) => fromRow(row))

const one = (result: Pg.QueryResult): EncodedCheckpoint | null => all(result)[0] ?? null

export const make = (names: Names) => {
  const checkpoints = names.qualified("checkpoints")
  const letters = names.qualified("dead_letters")
  const prepared = preparing(names, "checkpoint")

  const commit = `update ${checkpoints} set position = $8, lease_end_ms = ${nowMs} + $6 where ${held} and position = $7`

  const change = (operation: string, text: string, values: Array<unknown>): Statement<boolean> =>
    prepared(operation, operation, "write", text, values, ({ rowCount }) => (rowCount ?? 0) > 0)

  return {
    ofFollower: ({ generation, name }: EncodedFollower) =>
      prepared(
        "of_follower",
        "open",
        "read",
        `select ${selected} from ${checkpoints} where name = $1 and generation = $2 order by partition`,
        [name, generation],
        all
      ),

    /** The first row decides who makes all of them: inserting one that another has inserted waits for its commit. */
    insert: ({ generation, name, partitions }: Request<"open">) =>
      prepared(
        "insert",
        "open",
        "write",
        `with first as (
           insert into ${checkpoints} (${place}, partitions) values ($1, $2, 0, $3)
           on conflict (${place}) do nothing returning name, generation, partitions
         )
         insert into ${checkpoints} (${place}, partitions)
         select name, generation, partition, partitions
         from first, generate_series(1, partitions - 1) as others (partition)`,
        [name, generation, partitions],
        () => undefined
      ),

    /**
     * Skips a row that another transaction has locked: a handler's, which may last long. By the place, since the `ctid`
     * of a version that was committed since the statement began is not visible to the update.
     */
    claim: ({ leaseMs, owner, takeFrom, ...place }: Request<"claim">) =>
      prepared(
        "claim",
        "claim",
        "write",
        `with free as (
           select true from ${checkpoints} where ${ofPlace} and (lease_end_ms <= ${nowMs} or token = $6)
           for no key update skip locked
         )
         update ${checkpoints} set owner = $4, token = token + 1, lease_end_ms = ${nowMs} + $5
         from free where ${ofPlace} returning ${selected}`,
        [...placeOf(place), owner, leaseMs, takeFrom],
        one
      ),

    renew: ({ leaseMs, owner, token, ...place }: Request<"renew">) =>
      leaseMs === 0
        ? change("release", `update ${checkpoints} set owner = null, lease_end_ms = 0 where ${held}`, [
            ...placeOf(place),
            token,
            owner
          ])
        : change("renew", `update ${checkpoints} set lease_end_ms = ${nowMs} + $6 where ${held}`, [
            ...placeOf(place),
            token,
            owner,
            leaseMs
          ]),

    commit: ({ from, leaseMs, owner, position, token, ...place }: Request<"commit">) =>
      change("commit", commit, [...placeOf(place), token, owner, leaseMs, from, position]),

    /** The same, with dead letters: they are changed if the checkpoint is. */
    commitWithLetters: ({ deadLetters, from, leaseMs, owner, position, settled, token, ...place }: Request<"commit">) =>
      change(
        "commit_with_letters",
        `with held as (${commit} returning name, generation),
         settled as (
           delete from ${letters} as l using held
           where l.name = held.name and l.generation = held.generation and l.position = any ($9::bigint[])
         ),
         recorded as (
           insert into ${letters} as l (name, generation, ${letterColumns})
           select held.name, held.generation, given.*
           from held, unnest($10::bigint[], $11::int[], $12::text[], $13::text[], $14::text[], $15::uuid[], $16::text[],
             $17::text[], $18::text[]) as given
           on conflict (name, generation, position) do update set
             partition = excluded.partition, tenant_id = excluded.tenant_id, domain = excluded.domain,
             aggregate_id = excluded.aggregate_id, event_id = excluded.event_id, type = excluded.type,
             reason = excluded.reason, scope = excluded.scope
         )
         select from held`,
        [
          ...placeOf(place),
          token,
          owner,
          leaseMs,
          from,
          position,
          settled,
          ...Array.from({ length: 9 }, (_, column) => deadLetters.map((letter) => toLetterRow(letter)[column]))
        ]
      ),

    deadLetters: ({ generation, name }: EncodedFollower, after: number) =>
      prepared(
        "dead_letters",
        "deadLetters",
        "read",
        `select ${letterColumns} from ${letters} where name = $1 and generation = $2 and position > $3
         order by position limit ${pageSize}`,
        [name, generation, after],
        ({ rows }) => (rows as ReadonlyArray<LetterRow>).map((row) => fromLetterRow(row))
      ),

    find: (place: EncodedPlace) =>
      prepared("find", "find", "read", `select ${selected} from ${checkpoints} where ${ofPlace}`, placeOf(place), one),

    list: ({ generation, name }: Request<"list">, after: EncodedPlace) =>
      prepared(
        "list",
        "list",
        "read",
        `select ${selected} from ${checkpoints}
         where (${place}) > ($1, $2, $3) and name = coalesce($4, name) and generation = coalesce($5, generation)
         order by ${place} limit ${pageSize}`,
        [...placeOf(after), name, generation],
        all
      ),

    delete: ({ generation, name }: EncodedFollower) =>
      change(
        "delete",
        `with letters as (delete from ${letters} where name = $1 and generation = $2)
         delete from ${checkpoints} where name = $1 and generation = $2`,
        [name, generation]
      ),

    count: prepared(
      "count",
      "info",
      "read",
      `select (select count(*) from ${checkpoints}), (select count(*) from ${letters})`,
      [],
      ({ rows }) => {
        const [checkpoints, deadLetters] = rows[0] as readonly [number, number]
        return { checkpoints, deadLetters }
      }
    ),

    reset: change("reset", `with letters as (delete from ${letters}) delete from ${checkpoints}`, [])
  }
}
