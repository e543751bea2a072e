/**
 * The EventStore's statements on PostgreSQL, each in one place, and the rows they return. All are prepared by name,
 * once per connection; a filter has one text per set of conditions.
 */
import { identity } from "effect/Function"
import type Pg from "pg"
import type { ExpectedVersion, Guard, StreamId } from "../../EventStore.js"
import type {
  AppendOutcome,
  Encoded,
  EncodedAppend,
  EncodedEvent,
  EncodedFilter,
  EncodedNewEvent
} from "../../eventStore/EventStoreEncoded.js"
import { type Column, type Look, lookedUp, mergedTypes, partOf, type Way } from "../../sql/eventLookups.js"
import {
  column,
  columns,
  existing,
  fromRows,
  fromStreamRows,
  payloadOf,
  type Row,
  revisionOf,
  type StreamRow,
  streamColumns
} from "../../sql/eventRows.js"
import { eventConditions } from "../../sql/filters.js"
import type { Statement } from "../database/access.js"
import { anyOf, where } from "../database/filters.js"
import type { Names } from "../database/names.js"
import { type BoundedRows, distinct, distinctRows, loose, orderOf, pageOf, rowCount } from "../database/pages.js"
import * as functions from "./functions.js"
import type { Head, Holder } from "./heldBack.js"
import * as locks from "./locks.js"
import { isLarge, payload } from "./schema.js"

/** `Exists` comes without the events; they are read in a second statement. */
export type Answer = Exclude<AppendOutcome, { _tag: "Exists" }> | "Exists"

/** Another transaction held the lock of this stream, and nothing was done. */
export interface Busy {
  readonly _tag: "Busy"
  readonly stream: StreamId
}

export type Attempt = Answer | Busy

/** What is appended in one atomic step. */
export interface Batch {
  readonly appends: ReadonlyArray<EncodedAppend>
  readonly guards: ReadonlyArray<Guard>
}

const toEvents = (result: Pg.QueryResult): ReadonlyArray<EncodedEvent> => fromRows(result.rows)

type Request<K extends keyof Encoded> = Encoded[K] extends (request: infer R) => unknown ? R : never

const firstValue = <A>(result: Pg.QueryResult): A => (result.rows as ReadonlyArray<readonly [A]>)[0]?.[0] as A

const conditions = eventConditions(anyOf)

/** A column that no index is used for. */
const hidden = (column: Column): string =>
  column === "position" || column === "created_ms" ? `${column} + 0` : `${column} || ''`

/** The columns of events; of those that an index has, only the way's own can be looked up. */
const columnsBy = ({ columns: own }: Way): string =>
  columns
    .split(", ")
    .map((name) => {
      const column = lookedUp.find((column) => column === name)
      return column === undefined || own.includes(column) ? name : `${hidden(column)} as ${name}`
    })
    .join(", ")

/** The value that a way looks up in order of position, if it is a single one. */
const keyOfWay = (way: Way, { commandId, domain, tenantId }: EncodedFilter): string | undefined => {
  const value = { command: commandId, domain, tenant: tenantId }[way.name as "command" | "domain" | "tenant"]
  return value ?? undefined
}

/** Where a filter's events are found. */
interface Source {
  readonly from: string
  readonly where: string
  /** Tells the text apart. */
  readonly shape: string
}

/** Of several in one name, which may have 63 bytes. */
const shorter = (shape: string): string => {
  const [, way = "", types = "", fields = ""] = /^(..)[a-z]*(\d*)_(\d+)$/.exec(shape) ?? []
  return `${way}${types}${Number.parseInt(fields, 2).toString(36)}`
}

const expectedNumber = (expected: ExpectedVersion): number =>
  expected === "any"
    ? functions.expectAny
    : expected === "streamExists"
      ? functions.expectStreamExists
      : expected === "noStream"
        ? 0
        : expected

type OneRow = readonly [outcome: number, version: number, position: number]
type EachRow = readonly [
  outcomes: ReadonlyArray<number>,
  at: ReadonlyArray<number | null>,
  versions: ReadonlyArray<number>,
  positions: ReadonlyArray<number>
]
type AllRow = readonly [
  outcome: number,
  conflictAt: number,
  versions: ReadonlyArray<number>,
  positions: ReadonlyArray<number>
]

type HolderRow = readonly [pid: number | null, application: string | null, state: string | null, ageMs: number | null]

/** The events' columns, one array each. */
const columnsOf = (events: ReadonlyArray<EncodedNewEvent>): ReadonlyArray<ReadonlyArray<unknown>> => [
  events.map(({ id }) => id),
  events.map(({ type }) => type),
  events.map(({ data }) => data),
  events.map(({ metadata }) => metadata),
  events.map(({ keyId }) => keyId),
  events.map(({ commandId }) => commandId),
  events.map(({ instanceId }) => instanceId),
  events.map(({ createdAt }) => createdAt)
]

/** The streams' columns, one array each. */
const placesOf = (streams: ReadonlyArray<StreamId>): ReadonlyArray<ReadonlyArray<unknown>> => [
  streams.map(({ tenantId }) => tenantId),
  streams.map(({ domain }) => domain),
  streams.map(({ aggregateId }) => aggregateId)
]

const eventsOf = ({ appends }: Batch): ReadonlyArray<EncodedNewEvent> =>
  appends.length === 1 ? (appends[0] as EncodedAppend).events : appends.flatMap(({ events }) => events)

/** An append of one event to one stream, by itself. */
const singleOf = ({ appends, guards }: Batch): EncodedAppend | undefined => {
  const [first] = appends
  return appends.length === 1 && guards.length === 0 && first?.events.length === 1 ? first : undefined
}

/** How many events each of its streams gets; a guard none. */
const countsOf = ({ appends, guards }: Batch): ReadonlyArray<number> => [
  ...appends.map(({ events }) => events.length),
  ...guards.map(() => 0)
]

/** Two streams have the same key only if they are the same. */
export const keyOf = ({ aggregateId, domain, tenantId }: StreamId): string =>
  `${tenantId.length} ${domain.length} ${tenantId}${domain}${aggregateId}`

export const make = (names: Names) => {
  const events = names.qualified("events")
  const revisions = names.qualified("revisions")
  // Names belong to a connection, and stores with other tables may share it.
  const named = (name: string) => `${names.channel}/${name}`
  const read = <A>(
    name: string,
    text: string,
    values: Array<unknown>,
    onResult: (result: Pg.QueryResult) => A
  ): Statement<A, "read"> => ({
    name: named(name),
    text,
    values,
    rowMode: "array",
    operation: name,
    kind: "read",
    onResult
  })

  /**
   * The events of a filter, found in a way, or in whichever the server chooses. Adds the values of the filter to
   * `values`. `range` has the parameters of a range of positions. It is compared together with the column that is
   * looked up: by itself the planner takes any range for short, and would rather walk over it. `page` is how many are
   * wanted, and in which order. Each type has its own, because the planner knows what a parameter limits: where it must
   * guess how much of it all is wanted, it reads and sorts whole types, by several processes.
   */
  const found = (
    way: Way | undefined,
    filter: EncodedFilter,
    values: Array<unknown>,
    range?: { readonly after: string; readonly through: string },
    page?: { readonly key: string; readonly order: "asc" | "desc"; readonly limit: string }
  ): Source => {
    const between = (position: string, prefix: (value: string) => string): string =>
      range === undefined ? "" : ` and ${position} > ${prefix(range.after)} and ${position} <= ${prefix(range.through)}`
    const wanted = page === undefined ? "" : ` order by ${page.key} ${page.order} limit ${page.limit}`
    if (way === undefined) {
      const { shape, sql } = where(conditions, filter, values)
      return { from: events, where: `true${sql}`, shape }
    }
    const types = mergedTypes(filter, way)
    const all = `select ${columnsBy(way)} from ${events}`
    const [column = "position"] = way.columns
    const keyed = (value: string) => between(`(${column}, position)`, (position) => `(${value}, ${position})`)
    const parts = types.map((type) => {
      const value = `$${values.push(type)}`
      return `${all} where type = ${value}${keyed(value)}`
    })
    const { shape, sql } = where(conditions, types.length === 0 ? filter : { ...filter, types: null }, values)
    const key = range === undefined ? undefined : keyOfWay(way, filter)
    const rest =
      types.length > 0 ? "" : key === undefined ? between("position", identity) : keyed(`$${values.push(key)}`)
    const wantedOf = (part: string) => `(select * from (${part}) as part where true${sql}${rest}${wanted})`
    return {
      from: `(${(types.length === 0 ? [all] : parts).map(wantedOf).join(" union all ")}) as found`,
      where: "true",
      shape: `${way.name}${types.length === 0 ? "" : types.length}_${shape}`
    }
  }

  /**
   * The sizes of a page are looked at only where the range has large events at all. The first of them is asked for in
   * the order of their index: the planner takes a third of all events for large, and would look for one (`exists`) from
   * the beginning of the table.
   */
  const pageLimit = (range: string, ordered: "position" | "version", page: Omit<BoundedRows, "payload">): string =>
    `case when (select true from ${events} where ${range} and ${isLarge} order by ${ordered} limit 1)
          then ${rowCount({ ...page, payload })} else ${page.limit} end`

  /** An update of an event that gives its stream the revision too; it changes one row or none, as the update alone. */
  const revising = (update: string, revision: string): string =>
    `with changed as (${update} returning tenant_id, domain, aggregate_id)
     insert into ${revisions} (tenant_id, domain, aggregate_id, revision)
     select tenant_id, domain, aggregate_id, ${revision}::uuid from changed
     on conflict (tenant_id, domain, aggregate_id) do update set revision = excluded.revision`

  /** One of the append functions, as a statement. */
  const calling = (name: string, parameters: number): { readonly name: string; readonly text: string } => {
    const placeholders = Array.from({ length: parameters }, (_, i) => `$${i + 1}`).join(", ")
    return { name: named(name), text: `select * from ${names.qualified(name)}(${placeholders})` }
  }
  const append = calling("append", 12)
  const tryAppend = calling("try_append", 12)
  const appendAll = calling("append_all", 13)
  const tryAppendAll = calling("try_append_all", 13)
  const appendEach = calling("append_each", 15)

  const answerOf = ([outcome, version, position]: OneRow): Answer =>
    outcome === functions.outcomeAppended
      ? { _tag: "Appended", results: [{ version, position }] }
      : outcome === functions.outcomeConflict
        ? { _tag: "Conflict", index: 0, actual: version }
        : "Exists"

  /** Of one event. */
  const single = <A>(
    call: { readonly name: string; readonly text: string },
    { events, expected, stream }: EncodedAppend,
    onRow: (row: OneRow) => A
  ): Statement<A> => {
    const event = events[0] as EncodedNewEvent
    return {
      ...call,
      values: [
        stream.tenantId,
        stream.domain,
        stream.aggregateId,
        expectedNumber(expected),
        event.id,
        event.type,
        event.data,
        event.metadata,
        event.keyId,
        event.commandId,
        event.instanceId,
        event.createdAt
      ],
      rowMode: "array",
      operation: "append",
      kind: "write",
      onResult: (result) => onRow(result.rows[0] as OneRow)
    }
  }

  /** None waits for a lock, as of `tryAppend`. No two of them have an event id in common. */
  const appendGroup = (batches: ReadonlyArray<Batch>): Statement<ReadonlyArray<Attempt>> => {
    const parts = batches.map(({ appends, guards }): ReadonlyArray<Guard> => [...appends, ...guards])
    const streams: Array<StreamId> = []
    const numbers = new Map<string, number>()
    const numberOf = (stream: StreamId): number => {
      const key = keyOf(stream)
      const known = numbers.get(key)
      if (known !== undefined) return known
      const number = streams.push(stream)
      numbers.set(key, number)
      return number
    }
    const numbered = parts.flatMap((parts) => parts.map(({ stream }) => numberOf(stream)))
    return {
      ...appendEach,
      values: [
        ...placesOf(streams),
        parts.map(({ length }) => length),
        numbered,
        parts.flatMap((parts) => parts.map(({ expected }) => expectedNumber(expected))),
        batches.flatMap(countsOf),
        ...columnsOf(batches.flatMap(eventsOf))
      ],
      rowMode: "array",
      operation: "append",
      kind: "write",
      onResult: (result) => {
        const [outcomes, at, versions, positions] = result.rows[0] as EachRow
        let next = 0
        return batches.map(({ appends }, i): Attempt => {
          const first = next
          const named = parts[i] as ReadonlyArray<Guard>
          next += named.length
          const index = (at[i] ?? 1) - 1
          switch (outcomes[i]) {
            case functions.outcomeAppended: {
              const results = appends.map((_, i) => ({
                version: versions[first + i] as number,
                position: positions[first + i] as number
              }))
              return { _tag: "Appended", results }
            }
            case functions.outcomeConflict:
              return { _tag: "Conflict", index, actual: versions[first + index] as number }
            case functions.outcomeExists:
              return "Exists"
            default:
              return { _tag: "Busy", stream: (named[index] as Guard).stream }
          }
        })
      }
    }
  }

  const several = <A>(
    call: { readonly name: string; readonly text: string },
    batch: Batch,
    onRow: (row: AllRow, streams: ReadonlyArray<Guard>) => A
  ): Statement<A> => {
    const streams: ReadonlyArray<Guard> = [...batch.appends, ...batch.guards]
    return {
      ...call,
      values: [
        ...placesOf(streams.map(({ stream }) => stream)),
        streams.map(({ expected }) => expectedNumber(expected)),
        countsOf(batch),
        ...columnsOf(eventsOf(batch))
      ],
      rowMode: "array",
      operation: "append",
      kind: "write",
      onResult: (result) => onRow(result.rows[0] as AllRow, streams)
    }
  }

  const answerOfAll =
    ({ appends }: Batch) =>
    ([outcome, conflictAt, versions, positions]: AllRow): Answer => {
      if (outcome === functions.outcomeExists) return "Exists"
      if (outcome === functions.outcomeConflict) {
        return { _tag: "Conflict", index: conflictAt - 1, actual: versions[conflictAt - 1] as number }
      }
      const results = appends.map((_, i) => ({
        version: versions[i] as number,
        position: positions[i] as number
      }))
      return { _tag: "Appended", results }
    }

  return {
    /** Waits for locks. */
    append: (batch: Batch): Statement<Answer> => {
      const only = singleOf(batch)
      return only === undefined ? several(appendAll, batch, answerOfAll(batch)) : single(append, only, answerOf)
    },

    /** Does not wait for locks: returns `Busy`, or fails with `lock_not_available`. */
    tryAppend: (batch: Batch): Statement<Attempt> => {
      const only = singleOf(batch)
      if (only !== undefined) {
        const busy: Busy = { _tag: "Busy", stream: only.stream }
        return single(tryAppend, only, (row) => (row[0] === functions.outcomeBusy ? busy : answerOf(row)))
      }
      const answer = answerOfAll(batch)
      return several(tryAppendAll, batch, (row, streams) =>
        row[0] === functions.outcomeBusy ? { _tag: "Busy", stream: (streams[row[1] - 1] as Guard).stream } : answer(row)
      )
    },

    appendGroup,

    byIds: (ids: ReadonlyArray<string>) =>
      read("by_ids", `select changed, ${columns} from ${events} where id = any ($1::uuid[])`, [ids], ({ rows }) =>
        rows.length === 0 ? null : existing(rows)
      ),

    get: (id: string) =>
      read("get", `select ${columns} from ${events} where id = $1`, [id], (result) => toEvents(result)[0] ?? null),

    readStream: (request: Request<"readStream">) => {
      const { direction, fromVersion, limit, maxBytes, stream, toVersion } = request
      const order = orderOf(direction)
      const inStream = "tenant_id = $1 and domain = $2 and aggregate_id = $3"
      const range = `${inStream} and version between $4 and $5`
      const rows = `from ${events} where ${range}`
      const page = { rows, key: "version", direction: order, limit: "$6", maxBytes: "$7" } as const
      return read(
        `read_stream_${order}`,
        `select ${streamColumns}, (select revision from ${revisions} where ${inStream}) ${rows}
         order by version ${order} limit ${pageLimit(range, "version", page)}`,
        [stream.tenantId, stream.domain, stream.aggregateId, fromVersion, toVersion, limit, maxBytes],
        ({ rows }) => ({
          ...pageOf<StreamRow, EncodedEvent>(rows, request, payloadOf, (rows) => fromStreamRows(rows, stream)),
          revision: revisionOf(rows)
        })
      )
    },

    version: ({ aggregateId, domain, tenantId }: StreamId) =>
      read(
        "version",
        `select version from ${events}
         where tenant_id = $1 and domain = $2 and aggregate_id = $3
         order by version desc limit 1`,
        [tenantId, domain, aggregateId],
        (result) => firstValue<number | undefined>(result) ?? 0
      ),

    // The last position beside it costs next to nothing, and tells a feed that is held back from one that is read to
    // its end.
    head: read(
      "head",
      `select ${names.qualified("head")}(),
         coalesce(pg_sequence_last_value('${names.qualified("positions")}'::regclass), 0)`,
      [],
      (result): Head => {
        const [head, last] = result.rows[0] as readonly [number, number]
        return { head, last }
      }
    ),

    holder: read("holder", locks.make(names).holder, [], ({ rows }): Holder | undefined => {
      if (rows.length === 0) return undefined
      const [pid, application, state, ageMs] = rows[0] as HolderRow
      return { pid, application, state, ageMs }
    }),

    lastPosition: read("last_position", `select ${names.qualified("last_position")}()`, [], firstValue<number>),

    /** How many events each way has in a range of positions, up to `max`; of those without order, anywhere. */
    looks: (
      ways: ReadonlyArray<Way>,
      { after, direction, filter, through }: Pick<Request<"readFeed">, "after" | "direction" | "filter" | "through">,
      max: number
    ) => {
      const values: Array<unknown> = [max]
      const order = orderOf(direction)
      const last = direction === "forward" ? "max" : "min"
      const range = ways.some(({ inOrder }) => inOrder)
        ? { after: `$${values.push(after)}::bigint`, through: `$${values.push(through)}::bigint` }
        : undefined
      const looks = ways.map((way, i) => {
        const page = { key: "position", order, limit: "$1" } as const
        const { from, shape, where } = way.inOrder
          ? found(way, partOf(filter, way), values, range, page)
          : found(way, partOf(filter, way), values)
        const text = way.inOrder
          ? `select ${i}, count(*), coalesce(${last}(position), 0)
             from (select position from ${from} where ${where} order by position ${order} limit $1) as way`
          : `select ${i}, count(*), 0::bigint from (select from ${from} where ${where} limit $1) as way`
        return { shape: shorter(shape), text }
      })
      return read(
        `looks_${order}_${looks.map(({ shape }) => shape).join("")}`,
        `${looks.map(({ text }) => text).join(" union all ")} order by 1`,
        values,
        ({ rows }): ReadonlyArray<Look> =>
          (rows as ReadonlyArray<readonly [number, number, number]>).map(([_, count, last]) => ({ count, last }))
      )
    },

    readFeed: (request: Request<"readFeed">, way: Way) => {
      const values: Array<unknown> = [request.after, request.through, request.limit, request.maxBytes]
      const order = orderOf(request.direction)
      const range = "position > $1 and position <= $2"
      // Of one stream the order of versions is that of positions, and has an index.
      const key = way.name === "stream" ? "version" : "position"
      const wanted = { key, order, limit: "$3" } as const
      const { from, shape, where } = found(way, request.filter, values, { after: "$1", through: "$2" }, wanted)
      const rows = `from ${from} where ${where}`
      const page = { rows, key, direction: order, limit: "$3", maxBytes: "$4" } as const
      return read(
        `read_feed_${order}_${shape}`,
        `select ${columns} ${rows}
         order by ${key} ${order} limit ${pageLimit(range, "position", page)}`,
        values,
        ({ rows }) => pageOf<Row, EncodedEvent>(rows, request, payloadOf, fromRows)
      )
    },

    distinct: (request: Request<"distinct">, way: Way | undefined) => {
      const name = column[request.field]
      const values: Array<unknown> = [request.after, request.limit]
      const { from, shape, where } = found(way, request.filter, values)
      return read(`distinct_${name}_${shape}`, distinct(name, from, ` and ${where}`), values, distinctRows)
    },

    /** Every value by a look-up of the next one. */
    distinctByIndex: ({ after, field, filter, limit }: Request<"distinct">) => {
      const name = column[field]
      const values: Array<unknown> = [after, limit]
      const { shape, sql } = where(conditions, filter, values)
      return read(`distinct_by_index_${name}_${shape}`, loose(name, events, sql), values, distinctRows)
    },

    count: (filter: EncodedFilter, way: Way | undefined) => {
      const values: Array<unknown> = []
      const { from, shape, where } = found(way, filter, values)
      return read(`count_${shape}`, `select count(*) from ${from} where ${where}`, values, firstValue<number>)
    },

    // Every stream has one first event.
    info: read(
      "info",
      `select (select count(*) from ${events}), (select count(*) from ${events} where version = 1)`,
      [],
      (result) => {
        const [events, streams] = result.rows[0] as readonly [number, number]
        return { events, streams }
      }
    ),

    last: read(
      "last",
      `select ${columns} from ${events} order by position desc limit 1`,
      [],
      (result) => toEvents(result)[0] ?? null
    ),

    update: (request: {
      readonly id: string
      readonly data: string | null
      readonly metadata: string | null
      readonly keyId: string | null
      readonly revision: string
    }): Statement<boolean> => ({
      name: named("update"),
      text: revising(
        `update ${events} set data = coalesce($2, data), metadata = coalesce($3, metadata), key_id = $4,
           changed = case when $2 is null then changed else true end
         where id = $1`,
        "$5"
      ),
      values: [request.id, request.data, request.metadata, request.keyId, request.revision],
      operation: "update",
      kind: "write",
      onResult: (result) => result.rowCount === 1
    }),

    replace: ({ changes, data, id, keyId, metadata, revision, was }: Request<"replace">): Statement<boolean> => {
      const values = [id, data, metadata, keyId, was.data, was.metadata, changes ? true : null]
      const update = `update ${events} set data = $2, metadata = $3, key_id = $4, changed = coalesce($7, changed)
                      where id = $1 and data = $5 and metadata = $6`
      return {
        ...(revision === null
          ? { name: named("replace"), text: update, values }
          : { name: named("revise"), text: revising(update, "$8"), values: [...values, revision] }),
        operation: "replace",
        kind: "write",
        onResult: (result) => result.rowCount === 1
      }
    },

    // Under the stream's lock, so that no append sees a half-deleted stream.
    deleteStream: ({ aggregateId, domain, tenantId }: StreamId): Statement<number> => ({
      name: named("delete_stream"),
      text: `select ${names.qualified("delete_stream")}($1, $2, $3)`,
      values: [tenantId, domain, aggregateId],
      rowMode: "array",
      operation: "deleteStream",
      kind: "write",
      onResult: firstValue<number>
    }),

    reset: {
      text: `truncate ${events}, ${revisions}`,
      operation: "reset",
      kind: "write",
      onResult: () => undefined
    } satisfies Statement<void>,

    notify: {
      name: named("notify"),
      text: "select pg_notify($1, '')",
      values: [names.channel],
      operation: "notify",
      kind: "read",
      onResult: () => undefined
    } satisfies Statement<void>
  }
}
