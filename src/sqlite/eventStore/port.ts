/**
 * The EventStore's port on SQLite: which statements an append uses, and the rows they return. Positions are rowids: one
 * connection at a time writes, so the order of commits is the order of positions.
 */
import * as Effect from "effect/Effect"
import type { StoreFailure } from "../../Errors.js"
import type { DistinctField, ExpectedVersion, Guard, StreamId } from "../../EventStore.js"
import type {
  AppendOutcome,
  Encoded,
  EncodedAppend,
  EncodedFilter,
  EncodedNewEvent
} from "../../eventStore/EventStoreEncoded.js"
import { Hints } from "../../internal/Hints.js"
import { takePage } from "../../internal/pages.js"
import { type EventIndex, eventIndexes } from "../../internal/storeOptions.js"
import {
  everywhere,
  evident,
  isLoose,
  type Look,
  lookGrowth,
  lookMax,
  rarest,
  type Way,
  walk,
  waysOf
} from "../../sql/eventLookups.js"
import {
  type ExistingRow,
  existing,
  fromRow,
  fromRows,
  fromStreamRows,
  type Row,
  revisionOf,
  type StreamRow,
  sizeOf
} from "../../sql/eventRows.js"
import { refusal } from "../../sql/transactions.js"
import type { StoreAccess } from "../database/access.js"
import { commitFailure, type StepConnection } from "../database/connection.js"
import { isConstraint } from "../database/failures.js"
import { logQueries, stretchLength } from "../database/logQueries.js"
import { indexesOn } from "../database/migrations.js"
import type { Names } from "../database/names.js"
import { makeNote } from "../database/notes.js"
import { storeSchema } from "./schema.js"
import * as statements from "./statements.js"

type FeedRequest = Parameters<Encoded["readFeed"]>[0]

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded, StoreFailure> =>
  Effect.map(
    // On the connection that has just looked for migrations: a reader would be one more.
    database.write("checking indexes", (connection) => indexesOn(connection, names, storeSchema.table)),
    (existing) => onDatabase(database, names, new Set(eventIndexes.filter((index) => existing.has(index))))
  )

const onDatabase = (database: StoreAccess, names: Names, indexes: ReadonlySet<EventIndex>): Encoded => {
  const sql = statements.make(names)
  const hints = new Hints()
  const head = database.read("head", (connection) => (connection.prepare(sql.head).get() as [number])[0])

  const versionOf = (connection: StepConnection, { aggregateId, domain, tenantId }: StreamId): number =>
    (connection.prepare(sql.version).get(tenantId, domain, aggregateId) as [number])[0]

  /**
   * The whole append in one statement and one implicit transaction; `undefined` if the ids and versions must be
   * examined.
   */
  const appendOne = (
    connection: StepConnection,
    { expected, stream }: EncodedAppend,
    event: EncodedNewEvent
  ): AppendOutcome | undefined => {
    const place = placeOf(stream)
    const { id } = event
    const content = contentOf(event)
    try {
      if (expected === "any" || expected === "streamExists") {
        // `all`, because `get` returns the row and ignores a failure of the commit after it.
        const [row] = connection
          .prepare(expected === "any" ? sql.insertAny : sql.insertExists)
          .all(id, ...place, ...place, ...content) as [[number, number]]
        return { _tag: "Appended", results: [{ version: row[0], position: row[1] }] }
      }
      // Versions have no gaps, so version 1 is free only in an empty stream, and a next version only after the last.
      const after = expected === "noStream" ? 0 : expected
      const { lastInsertRowid } =
        after === 0
          ? connection.prepare(sql.insert).run(id, ...place, 1, ...content)
          : connection.prepare(sql.insertAfter).run(id, ...place, ...place, after, ...content)
      return { _tag: "Appended", results: [{ version: after + 1, position: Number(lastInsertRowid) }] }
    } catch (error) {
      if (isConstraint(error)) return undefined
      throw commitFailure("append", error)
    }
  }

  /** Inserts if everything is as expected; throws the constraint's error if an id is taken. */
  const insertAll = (
    connection: StepConnection,
    appends: ReadonlyArray<EncodedAppend>,
    guards: ReadonlyArray<Guard>
  ): AppendOutcome => {
    const versions: Array<number> = []
    for (const { expected, stream } of [...appends, ...guards]) {
      const actual = versionOf(connection, stream)
      if (!isExpected(expected, actual)) return { _tag: "Conflict", index: versions.length, actual }
      versions.push(actual)
    }
    const insert = connection.prepare(sql.insert)
    const results = appends.map(({ events, stream }, index) => {
      const place = placeOf(stream)
      let version = versions[index] ?? 0
      let position = 0
      for (const event of events) {
        const { lastInsertRowid } = insert.run(event.id, ...place, ++version, ...contentOf(event))
        position = Number(lastInsertRowid)
      }
      return { version, position }
    })
    return { _tag: "Appended", results }
  }

  /**
   * 1. First it assumes that everything is new and as expected: that takes the fewest statements.
   * 2. If that was wrong, nothing has happened, and a new transaction examines the ids first.
   */
  const append = (
    connection: StepConnection,
    appends: ReadonlyArray<EncodedAppend>,
    guards: ReadonlyArray<Guard>
  ): AppendOutcome => {
    const first = appends[0]
    const only = first !== undefined && appends.length === 1 && guards.length === 0 && first.events.length === 1
    const event = only ? first.events[0] : undefined
    if (first !== undefined && event !== undefined) {
      const outcome = appendOne(connection, first, event)
      if (outcome !== undefined) return outcome
    } else {
      try {
        const outcome = connection.atomically("append", () => insertAll(connection, appends, guards))
        if (outcome._tag === "Appended") return outcome
      } catch (error) {
        if (!isConstraint(error)) throw error
      }
    }
    return connection.atomically("append", () => {
      const ids = appends.flatMap((append) => append.events.map(({ id }) => id))
      const found = connection.prepare(sql.byIds).all(JSON.stringify(ids)) as ReadonlyArray<ExistingRow>
      return found.length > 0 ? existing(found) : insertAll(connection, appends, guards)
    })
  }

  const looksOf = (
    connection: StepConnection,
    ways: ReadonlyArray<Way>,
    { after, direction, filter, through }: Pick<FeedRequest, "after" | "direction" | "filter" | "through">,
    max: number
  ): ReadonlyArray<Look> =>
    ways.map((way) => {
      const { before, params, text } = sql.look(filter, way, direction)
      const range = way.inOrder ? [after, through] : []
      const [count, last] = connection.prepare(text).get(...before, ...range, ...params, max) as [number, number]
      return { count, last }
    })

  const wayTo = (connection: StepConnection, request: FeedRequest): Way => {
    const ways = waysOf(request.filter, indexes)
    return (
      evident(ways, request) ?? rarest(ways, looksOf(connection, ways, request, lookMax), request.direction, lookMax)
    )
  }

  /** The way that has the fewest events for a filter; `undefined` if no index has any. */
  const fewest = (
    connection: StepConnection,
    filter: EncodedFilter,
    ways = waysOf(filter, indexes),
    max = lookMax
  ): Way | undefined => {
    if (ways.length < 2) return ways[0]
    const looks = looksOf(connection, ways, { ...everywhere, filter }, max)
    return looks.some(({ count }) => count < max)
      ? rarest(ways, looks, everywhere.direction, max)
      : fewest(connection, filter, ways, max * lookGrowth)
  }

  const queries = logQueries(
    database,
    {
      get: sql.get,
      bounds: sql.bounds,
      distinct: (connection, field: DistinctField, filter: EncodedFilter) => {
        if (isLoose(field, filter, indexes)) return { inOrder: sql.distinctLoose(field, filter) }
        if (statements.isInOrder(field, filter)) return { inOrder: sql.distinctInOrder(field, filter) }
        const ways = waysOf(filter, indexes)
        const looks = looksOf(connection, ways, { ...everywhere, filter }, stretchLength)
        const few = looks.some(({ count }) => count < stretchLength)
        const way = rarest(ways, looks, everywhere.direction, stretchLength)
        return {
          all: sql.distinct(field, filter, few ? way : undefined),
          stretch: sql.distinctStretch(field, filter, way.inOrder ? way : walk),
          few
        }
      },
      count: (connection, filter: EncodedFilter) => sql.count(filter, fewest(connection, filter))
    },
    fromRow
  )

  return {
    append: (appends, guards) =>
      Effect.withFiberRuntime((fiber) => {
        const refused = refusal(fiber, database)
        if (refused !== undefined) return Effect.fail(refused)
        return database.writeGrouped(
          "append",
          (connection) => append(connection, appends, guards),
          ({ _tag }) => {
            if (_tag === "Appended") hints.signal()
          }
        )
      }),

    readStream: ({ direction, fromVersion, limit, maxBytes, stream, toVersion }) =>
      database.read("read", (connection) => {
        const place = placeOf(stream)
        const rows = connection
          .prepare(sql.readStream[direction])
          .iterate(...place, ...place, fromVersion, toVersion, limit)
        const { items, more } = takePage(rows as Iterable<StreamRow>, { limit, maxBytes }, sizeOf)
        return { items: fromStreamRows(items, stream), more, revision: revisionOf(items) }
      }),

    version: (stream) => database.read("version", (connection) => versionOf(connection, stream)),

    head,

    // One connection at a time writes, so nobody has a position before it is committed.
    lastPosition: head,

    readFeed: (request) =>
      database.read("feed", (connection) => {
        const { after, direction, filter, limit, maxBytes, through } = request
        const { before, params, text } = sql.readFeed(filter, direction, wayTo(connection, request))
        const rows = connection.prepare(text).iterate(...before, after, through, ...params, limit)
        const { items, more } = takePage(rows as Iterable<Row>, { limit, maxBytes }, sizeOf)
        return { items: fromRows(items), more }
      }),

    ...queries,

    info: database.read("info", (connection) =>
      connection.consistently(() => {
        const [count, streams] = connection.prepare(sql.info).get() as [number, number]
        const last = connection.prepare(sql.last).get() as Row | undefined
        return {
          backend: "Sqlite",
          connection: database.connection,
          events: count,
          streams,
          lastEvent: last === undefined ? null : fromRow(last)
        }
      })
    ),

    update: ({ data, id, keyId, metadata, revision }) =>
      database.write("update", (connection) =>
        connection.atomically("update", () => {
          const changed = data === null ? null : 1
          if (connection.prepare(sql.update).run(data, metadata, keyId, changed, id).changes === 0) return false
          connection.prepare(sql.revise).run(revision, id)
          return true
        })
      ),

    replace: ({ changes, data, id, keyId, metadata, revision, was }) =>
      database.write("replace", (connection) =>
        connection.atomically("replace", () => {
          const params = [data, metadata, keyId, changes ? 1 : null, id, was.data, was.metadata]
          if (connection.prepare(sql.replace).run(...params).changes === 0) return false
          if (revision !== null) connection.prepare(sql.revise).run(revision, id)
          return true
        })
      ),

    deleteStream: (stream) =>
      database.write("deleteStream", (connection) =>
        connection.atomically("deleteStream", () => {
          connection.prepare(sql.deleteRevision).run(...placeOf(stream))
          return connection.prepare(sql.deleteStream).run(...placeOf(stream)).changes
        })
      ),

    reset: database.write("reset", (connection) =>
      connection.atomically("reset", () => {
        connection.prepare(sql.resetRevisions).run()
        connection.prepare(sql.reset).run()
      })
    ),

    note: makeNote(database, names, "EventStore"),

    hints: hints.register,

    inTransaction: Effect.withFiberRuntime((fiber) => Effect.succeed(database.inTransaction(fiber)))
  }
}

const placeOf = ({ aggregateId, domain, tenantId }: StreamId) => [tenantId, domain, aggregateId] as const

/** The columns that an event brings with it, in the order of the statements. */
const contentOf = ({ commandId, createdAt, data, instanceId, keyId, metadata, type }: EncodedNewEvent) =>
  [type, data, metadata, keyId, commandId, instanceId, createdAt] as const

const isExpected = (expected: ExpectedVersion, actual: number): boolean =>
  expected === "any" ||
  (expected === "noStream" ? actual === 0 : expected === "streamExists" ? actual > 0 : actual === expected)
