/**
 * The CacheStore's statements on PostgreSQL, each in one place, and the rows they give. All are prepared by name, once
 * per connection. Times are the server's. What changes several rows locks them in the order of their keys.
 */
import type Pg from "pg"
import type { EncodedEntry, EncodedListed, EncodedWrite, Payload, Place } from "../../cacheStore/CacheStoreEncoded.js"
import { pageSize } from "../../internal/pages.js"
import { type AddressRow, addressFrom, entryOf, ever, finite, purgeBatch, type TagMark } from "../../sql/cacheRows.js"
import { preparing } from "../database/access.js"
import type { Names } from "../database/names.js"

const now = "(extract(epoch from clock_timestamp()) * 1000)::bigint"

/** A sum of times, one of which may be for ever. */
const sum = (a: string, b: string): string =>
  `case when ${a} >= ${ever} or ${b} >= ${ever} then ${ever} else ${a} + ${b} end`

type EntryRow = readonly [
  key: string,
  value: string,
  keyId: string | null,
  tags: string | null,
  freshMs: number,
  nowMs: number
]

const entryFrom = ([, value, keyId, tags, freshMs, nowMs]: EntryRow): EncodedEntry =>
  entryOf(value, keyId, freshMs, nowMs, tags)

const rowsOf = <A>({ rows }: Pg.QueryResult): ReadonlyArray<A> => rows

const firsts = (result: Pg.QueryResult): ReadonlySet<string> =>
  new Set(rowsOf<readonly [string]>(result).map(([key]) => key))

export const make = (names: Names) => {
  const entries = names.qualified("cache_entries")
  const tags = names.qualified("cache_tags")
  const times = names.qualified("cache_times")

  const statement = preparing(names, "cache")

  const done = (): void => undefined

  /** Entries that are there, as `e`, with what their tags make of their times, as `t`, and the time, as `n`. */
  const living = `${entries} e
cross join lateral ${times}(e.tenant_id, e.tags, e.fresh_ms, e.kept_ms, e.grace_ms) t
cross join lateral (select ${now} as ms) n`

  const found = `select e.key, e.value, e.key_id, e.tags, t.fresh, n.ms from ${living}`
  const isThere = "e.value is not null and t.kept > n.ms"

  const isFreshAs = (row: string, more = ""): string =>
    `${row}.value is not null and exists (
      select from ${times}(${row}.tenant_id, ${row}.tags, ${row}.fresh_ms, ${row}.kept_ms, ${row}.grace_ms) t
      where t.kept > ${now} and t.fresh > ${now}${more}
    )`

  /** The rows of some keys of a tenant, locked in their order. */
  const locked = (condition = "") =>
    `select tenant_id, key from ${entries} where tenant_id = $1 and key = any ($2)${condition} order by key for update`

  const replaced = `token = null, lease_ms = 0, marks = null, fresh_ms = excluded.fresh_ms, kept_ms = excluded.kept_ms,
  grace_ms = excluded.grace_ms, end_ms = excluded.end_ms, tags = excluded.tags, key_id = excluded.key_id,
  value = excluded.value`

  /** Of keys $2, values $3 and key ids $4, with time to live $5, grace $6 and tags $7. */
  const inserted = `insert into ${entries} as stored
  (tenant_id, key, lease_ms, fresh_ms, kept_ms, grace_ms, end_ms, tags, key_id, value)
select $1, u.key, 0, f.ms, k.ms, $6::bigint, k.ms, $7::text, u.key_id, u.value
from unnest($2::text[], $3::text[], $4::text[]) u (key, value, key_id)
cross join lateral (select ${sum(now, "$5::bigint")} as ms) f
cross join lateral (select ${sum("f.ms", "$6::bigint")} as ms) k
order by u.key
on conflict (tenant_id, key) do update set ${replaced}`

  const put = (writes: ReadonlyArray<EncodedWrite>, marks: string | null): Array<unknown> => {
    const { graceMs, tenantId, ttlMs } = writes[0] as EncodedWrite
    return [
      tenantId,
      writes.map(({ key }) => key),
      writes.map(({ value }) => value),
      writes.map(({ keyId }) => keyId),
      finite(ttlMs),
      finite(graceMs),
      marks
    ]
  }

  const marksFrom =
    (names: ReadonlyArray<string>) =>
    (result: Pg.QueryResult): ReadonlyArray<TagMark> | null => {
      const rows = new Map(
        rowsOf<readonly [string, string, number]>(result).map(([name, generation, expiries]) => [
          name,
          { name, generation, expiries }
        ])
      )
      const marks = names.map((name) => rows.get(name))
      return marks.every((mark) => mark !== undefined) ? (marks as ReadonlyArray<TagMark>) : null
    }

  return {
    get: (tenantId: string, key: string) =>
      statement(
        "get",
        "get",
        "read",
        `${found} where e.tenant_id = $1 and e.key = $2 and ${isThere}`,
        [tenantId, key],
        ({ rows }) => (rows[0] === undefined ? null : entryFrom(rows[0]))
      ),

    getMany: (operation: string, tenantId: string, keys: ReadonlyArray<string>) =>
      statement(
        "get_many",
        operation,
        "read",
        `${found} where e.tenant_id = $1 and e.key = any ($2) and ${isThere}`,
        [tenantId, keys],
        (result) => {
          const rows = new Map(rowsOf<EntryRow>(result).map((row) => [row[0], entryFrom(row)]))
          return keys.map((key) => rows.get(key) ?? null)
        }
      ),

    /** The tags that live long enough; null unless all do. */
    lookAtTags: (operation: string, tenantId: string, names: ReadonlyArray<string>, keepMs: number) =>
      statement(
        "look_at_tags",
        operation,
        "read",
        `select tag, generation, expiries from ${tags}
where tenant_id = $1 and tag = any ($2) and kept_ms >= ${sum(now, "$3::bigint")}`,
        [tenantId, names, finite(keepMs)],
        marksFrom(names)
      ),

    // Longer than it must, so that not every write of an entry is one of its tags.
    takeTags: (operation: string, tenantId: string, names: ReadonlyArray<string>, keepMs: number) =>
      statement(
        "take_tags",
        operation,
        "write",
        `insert into ${tags} as stored (tenant_id, tag, generation, expiries, expired_ms, kept_ms)
select $1, tag, gen_random_uuid()::text, 0, 0, case when $3 >= ${ever} then ${ever} else ${now} + 2 * $3::bigint end
from unnest($2::text[]) tag order by tag
on conflict (tenant_id, tag) do update set kept_ms = greatest(stored.kept_ms, excluded.kept_ms)
returning tag, generation, expiries`,
        [tenantId, names, finite(keepMs)],
        marksFrom(names)
      ),

    set: (writes: ReadonlyArray<EncodedWrite>, marks: string | null) =>
      statement("set", "set", "write", inserted, put(writes, marks), done),

    setIfAbsent: (write: EncodedWrite, marks: string | null) =>
      statement(
        "set_if_absent",
        "setIfAbsent",
        "write",
        `${inserted} where not (${isFreshAs("stored")})`,
        put([write], marks),
        (result) => result.rowCount === 1
      ),

    /** The tags of what was touched, and their new time to live; null for nothing. */
    touch: (tenantId: string, key: string, ttlMs: number) =>
      statement(
        "touch",
        "touch",
        "write",
        `update ${entries} e set fresh_ms = f.ms, kept_ms = k.ms, end_ms = greatest(k.ms, e.lease_ms)
from ${entries} o
cross join lateral (select ${sum(now, "$3::bigint")} as ms) f
cross join lateral (select ${sum("f.ms", "o.grace_ms")} as ms) k
where e.tenant_id = $1 and e.key = $2 and o.tenant_id = e.tenant_id and o.key = e.key and ${isFreshAs("e")}
returning e.tags, e.grace_ms`,
        [tenantId, key, finite(ttlMs)],
        ({ rows }) => {
          const row = rows[0] as readonly [string | null, number] | undefined
          return row === undefined ? null : { marks: row[0], graceMs: row[1] }
        }
      ),

    remove: (tenantId: string, keys: ReadonlyArray<string>) =>
      statement(
        "delete",
        "delete",
        "write",
        `with l as materialized (${locked()})
delete from ${entries} e using l where (e.tenant_id, e.key) = (l.tenant_id, l.key)`,
        [tenantId, keys],
        done
      ),

    expire: (tenantId: string, keys: ReadonlyArray<string>) =>
      statement(
        "expire",
        "expire",
        "write",
        `with l as materialized (${locked()})
update ${entries} e set token = null, lease_ms = 0, marks = null, fresh_ms = least(e.fresh_ms, n.ms),
  kept_ms = case when e.fresh_ms > n.ms then least(e.kept_ms, ${sum("n.ms", "e.grace_ms")}) else e.kept_ms end,
  end_ms = case when e.fresh_ms > n.ms then least(e.kept_ms, ${sum("n.ms", "e.grace_ms")}) else e.kept_ms end
from l cross join (select ${now} as ms) n
where (e.tenant_id, e.key) = (l.tenant_id, l.key)`,
        [tenantId, keys],
        done
      ),

    invalidateTags: (tenantId: string, names: ReadonlyArray<string>) =>
      statement(
        "invalidate_tags",
        "invalidate",
        "write",
        `with l as materialized (
  select tenant_id, tag from ${tags} where tenant_id = $1 and tag = any ($2) order by tag for update
) delete from ${tags} t using l where (t.tenant_id, t.tag) = (l.tenant_id, l.tag)`,
        [tenantId, names],
        done
      ),

    expireTags: (tenantId: string, names: ReadonlyArray<string>) =>
      statement(
        "expire_tags",
        "expire",
        "write",
        `with l as materialized (
  select tenant_id, tag from ${tags} where tenant_id = $1 and tag = any ($2) order by tag for update
) update ${tags} t set expiries = t.expiries + 1, expired_ms = ${now} from l
where (t.tenant_id, t.tag) = (l.tenant_id, l.tag)`,
        [tenantId, names],
        done
      ),

    /** The keys that are granted. A ticket with other marks is void, or for other tags, and gives way. */
    begin: (
      tenantId: string,
      keys: ReadonlyArray<string>,
      token: string,
      leaseMs: number,
      marks: string | null,
      refreshMs: number
    ) =>
      statement(
        "begin",
        "begin",
        "write",
        `insert into ${entries} as stored
  (tenant_id, key, token, lease_ms, marks, fresh_ms, kept_ms, grace_ms, end_ms)
select $1, u.key, $3, l.ms, $5::text, 0, 0, 0, l.ms
from unnest($2::text[]) u (key) cross join lateral (select ${sum(now, "$4::bigint")} as ms) l
order by u.key
on conflict (tenant_id, key) do update set token = excluded.token, lease_ms = excluded.lease_ms,
  marks = excluded.marks, end_ms = greatest(stored.kept_ms, excluded.lease_ms)
where stored.token = excluded.token or (
  not (${isFreshAs("stored", ` and (t.fresh >= ${ever} or t.fresh - ${now} > $6::bigint)`)})
  and (stored.token is null or stored.lease_ms <= ${now} or stored.marks is distinct from excluded.marks)
)
returning key`,
        [tenantId, keys, token, finite(leaseMs), marks, finite(refreshMs)],
        firsts
      ),

    renew: (tenantId: string, keys: ReadonlyArray<string>, token: string, leaseMs: number) =>
      statement(
        "renew",
        "renew",
        "write",
        `with l as materialized (${locked(` and token = $3`)})
update ${entries} e set lease_ms = n.ms + $4::bigint, end_ms = greatest(e.kept_ms, n.ms + $4::bigint)
from l cross join (select ${now} as ms) n
where (e.tenant_id, e.key) = (l.tenant_id, l.key) and e.token = $3 and e.lease_ms > n.ms
returning e.key`,
        [tenantId, keys, token, finite(leaseMs)],
        firsts
      ),

    /** Stores where the ticket still is; the keys where it was. */
    fill: (writes: ReadonlyArray<EncodedWrite>, marks: string | null, token: string) =>
      statement(
        "fill",
        "settle",
        "write",
        `with l as materialized (${locked(` and token = $8`)})
update ${entries} e set token = null, lease_ms = 0, marks = null, fresh_ms = f.ms, kept_ms = k.ms,
  grace_ms = $6::bigint, end_ms = k.ms, tags = $7::text, key_id = u.key_id, value = u.value
from l
join unnest($2::text[], $3::text[], $4::text[]) u (key, value, key_id) on u.key = l.key
cross join lateral (select ${sum(now, "$5::bigint")} as ms) f
cross join lateral (select ${sum("f.ms", "$6::bigint")} as ms) k
where (e.tenant_id, e.key) = (l.tenant_id, l.key) and e.token = $8 and e.lease_ms > ${now}
returning e.key`,
        [...put(writes, marks), token],
        firsts
      ),

    /** Takes tickets away, or lets them stay for so long. What is without a value then is left to the purge. */
    release: (tenantId: string, keys: ReadonlyArray<string>, token: string, holdMs: number) =>
      statement(
        "release",
        "settle",
        "write",
        `with l as materialized (${locked(` and token = $3`)})
update ${entries} e set
  token = case when $4::bigint > 0 then e.token end,
  marks = case when $4::bigint > 0 then e.marks end,
  lease_ms = case when $4::bigint > 0 then n.ms + $4::bigint else 0 end,
  end_ms = greatest(e.kept_ms, n.ms + $4::bigint)
from l cross join (select ${now} as ms) n
where (e.tenant_id, e.key) = (l.tenant_id, l.key) and e.token = $3 and e.lease_ms > n.ms
returning e.key`,
        [tenantId, keys, token, holdMs],
        firsts
      ),

    list: (tenantId: string, prefix: string, after: string, limit: number) =>
      statement(
        "list",
        "list",
        "read",
        `select e.key, t.fresh, n.ms from ${living}
where e.tenant_id = $1 and e.key >= $2 and e.key > $3 and starts_with(e.key, $2) and ${isThere} and t.fresh > n.ms
order by e.key limit $4`,
        [tenantId, prefix, after, limit],
        (result) =>
          rowsOf<readonly [string, number, number]>(result).map(
            ([key, freshMs, nowMs]): EncodedListed => ({
              key,
              freshMs: freshMs >= ever ? Number.POSITIVE_INFINITY : freshMs - nowMs
            })
          )
      ),

    replace: ({ key, tenantId }: Place, was: Payload, payload: Payload) =>
      statement(
        "replace",
        "replace",
        "write",
        `update ${entries} set value = $3, key_id = $4
where tenant_id = $1 and key = $2 and value = $5 and key_id is not distinct from $6`,
        [tenantId, key, payload.value, payload.keyId, was.value, was.keyId],
        (result) => result.rowCount === 1
      ),

    addresses: ({ key, tenantId }: Place) =>
      statement(
        "addresses",
        "addresses",
        "read",
        `select tenant_id, key, key_id from ${entries}
where (tenant_id, key) > ($1, $2) and value is not null and kept_ms > ${now}
order by tenant_id, key limit ${pageSize}`,
        [tenantId, key],
        (result) => rowsOf<AddressRow>(result).map(addressFrom)
      ),

    count: (tenantId: string, prefix: string) =>
      statement(
        "count",
        "count",
        "read",
        `select count(*)::int from ${living}
where e.tenant_id = $1 and e.key >= $2 and starts_with(e.key, $2) and ${isThere} and t.fresh > n.ms`,
        [tenantId, prefix],
        ({ rows }) => (rows[0] as readonly [number])[0]
      ),

    countAll: statement(
      "count_all",
      "info",
      "read",
      `select count(*)::int from ${living} where ${isThere} and t.fresh > n.ms`,
      [],
      ({ rows }) => (rows[0] as readonly [number])[0]
    ),

    /** Of one tenant, or of all. Tags go with the entries, and void what was begun with them. */
    reset: (tenantId: string | null) =>
      tenantId === null
        ? statement("reset", "reset", "write", `with t as (delete from ${tags}) delete from ${entries}`, [], done)
        : statement(
            "clear",
            "clear",
            "write",
            `with t as (delete from ${tags} where tenant_id = $1) delete from ${entries} where tenant_id = $1`,
            [tenantId],
            done
          ),

    /** A batch; how many are gone. What another process has locked is its to purge, or is used again. */
    purge: (table: "entries" | "tags") => {
      const [name, end] = table === "entries" ? [entries, "end_ms"] : [tags, "kept_ms"]
      return statement(
        `purge_${table}`,
        "purge",
        "write",
        `delete from ${name} where ctid = any (array(
  select ctid from ${name} where ${end} < ${ever} and ${end} <= ${now}
  order by ${end} limit ${purgeBatch} for update skip locked
))`,
        [],
        (result) => result.rowCount ?? 0
      )
    }
  }
}
