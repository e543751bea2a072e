/**
 * The EventStore's port on SQLite: its statements, each in one place, and the rows they return. Positions are rowids:
 * one connection at a time writes, so the order of commits is the order of positions.
 */
import * as Effect from "effect/Effect"
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
import {
  column,
  columns,
  fromRow,
  fromRows,
  fromStreamRows,
  type Row,
  type StreamRow,
  sizeOf,
  streamColumns
} from "../../sql/eventRows.js"
import { refusal } from "../../sql/executing.js"
import { eventConditions } from "../../sql/filters.js"
import type { SqliteConnection } from "../database/connection.js"
import { isConstraint } from "../database/failures.js"
import { anyOf, filtered, unindexed } from "../database/filters.js"
import type { Names } from "../database/names.js"
import type { StoreAccess } from "../database/storeAccess.js"

const inStream = "tenant_id = ? AND domain = ? AND aggregate_id = ?"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const events = names.qualified("events")
  const hints = new Hints()

  const insertInto = (version: string): string =>
    `INSERT INTO ${events} (
       id, tenant_id, domain, aggregate_id, version, type, data, metadata, key_id, command_id, instance_id, created_ms
     ) VALUES (?, ?, ?, ?, ${version}, ?, ?, ?, ?, ?, ?, ?)`

  const sql = {
    insert: insertInto("?"),
    // Each yields NULL, which the table refuses, if the stream is not as expected.
    insertAny: `${insertInto(`(SELECT coalesce(max(version), 0) + 1 FROM ${events} WHERE ${inStream})`)}
      RETURNING version, position`,
    insertExists: `${insertInto(`(SELECT max(version) + 1 FROM ${events} WHERE ${inStream})`)}
      RETURNING version, position`,
    insertAfter: insertInto(`(SELECT version + 1 FROM ${events} WHERE ${inStream} AND version = ?)`),
    version: `SELECT coalesce(max(version), 0) FROM ${events} WHERE ${inStream}`,
    readForward: `SELECT ${streamColumns} FROM ${events} WHERE ${inStream} AND version >= ? AND version <= ?
      ORDER BY version LIMIT ?`,
    readBackward: `SELECT ${streamColumns} FROM ${events} WHERE ${inStream} AND version >= ? AND version <= ?
      ORDER BY version DESC LIMIT ?`,
    // Not max(position): the positions of deleted events must stay below the head.
    head: "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?",
    last: `SELECT ${columns} FROM ${events} ORDER BY position DESC LIMIT 1`,
    get: `SELECT ${columns} FROM ${events} WHERE id = ?`,
    byIds: `SELECT ${columns} FROM ${events} WHERE id IN (SELECT value FROM json_each(?))`,
    countAll: `SELECT count(*), (SELECT count(*) FROM ${events} WHERE version = 1) FROM ${events}`,
    update: `UPDATE ${events} SET data = coalesce(?, data), metadata = coalesce(?, metadata), key_id = ? WHERE id = ?`,
    deleteStream: `DELETE FROM ${events} WHERE ${inStream}`,
    reset: `DELETE FROM ${events}`
  }

  const versionOf = (connection: SqliteConnection, { aggregateId, domain, tenantId }: StreamId): number =>
    (connection.prepare(sql.version).get(tenantId, domain, aggregateId) as [number])[0]

  /**
   * The whole append in one statement and one implicit transaction; `undefined` if the ids and versions must be
   * examined.
   */
  const appendOne = (
    connection: SqliteConnection,
    { expected, stream }: EncodedAppend,
    event: EncodedNewEvent
  ): AppendOutcome | undefined => {
    const { aggregateId, domain, tenantId } = stream
    const { commandId, createdAt, data, id, instanceId, keyId, metadata, type } = event
    try {
      if (expected === "any" || expected === "streamExists") {
        // `all`, because `get` returns the row and ignores a failure of the commit after it.
        const [row] = connection
          .prepare(expected === "any" ? sql.insertAny : sql.insertExists)
          .all(
            id,
            tenantId,
            domain,
            aggregateId,
            tenantId,
            domain,
            aggregateId,
            type,
            data,
            metadata,
            keyId,
            commandId,
            instanceId,
            createdAt
          ) as [[number, number]]
        return { _tag: "Appended", results: [{ version: row[0], position: row[1] }] }
      }
      // Versions have no gaps, so version 1 is free only in an empty stream, and a next version only after the last.
      const after = expected === "noStream" ? 0 : expected
      const { lastInsertRowid } =
        after === 0
          ? connection
              .prepare(sql.insert)
              .run(id, tenantId, domain, aggregateId, 1, type, data, metadata, keyId, commandId, instanceId, createdAt)
          : connection
              .prepare(sql.insertAfter)
              .run(
                id,
                tenantId,
                domain,
                aggregateId,
                tenantId,
                domain,
                aggregateId,
                after,
                type,
                data,
                metadata,
                keyId,
                commandId,
                instanceId,
                createdAt
              )
      return { _tag: "Appended", results: [{ version: after + 1, position: Number(lastInsertRowid) }] }
    } catch (error) {
      if (isConstraint(error)) return undefined
      throw connection.commitFailure("append", error)
    }
  }

  /** Inserts if everything is as expected; throws the constraint's error if an id is taken. */
  const insertAll = (
    connection: SqliteConnection,
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
    const results = appends.map(({ events, stream: { aggregateId, domain, tenantId } }, index) => {
      let version = versions[index] ?? 0
      let position = 0
      for (const { commandId, createdAt, data, id, instanceId, keyId, metadata, type } of events) {
        const { lastInsertRowid } = insert.run(
          id,
          tenantId,
          domain,
          aggregateId,
          ++version,
          type,
          data,
          metadata,
          keyId,
          commandId,
          instanceId,
          createdAt
        )
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
    connection: SqliteConnection,
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
      const existing = connection.prepare(sql.byIds).all(JSON.stringify(ids)) as ReadonlyArray<Row>
      return existing.length > 0
        ? { _tag: "Exists", events: existing.map(fromRow) }
        : insertAll(connection, appends, guards)
    })
  }

  return {
    append: (appends, guards) =>
      Effect.withFiberRuntime((fiber) => {
        const refused = refusal(fiber, database)
        if (refused !== undefined) return Effect.fail(refused)
        return database.write(
          "append",
          (connection) => append(connection, appends, guards),
          ({ _tag }) => {
            if (_tag === "Appended") hints.signal()
          }
        )
      }),

    readStream: ({ direction, fromVersion, limit, maxBytes, stream, toVersion }) =>
      database.read("read", (connection) => {
        const rows = connection
          .prepare(direction === "forward" ? sql.readForward : sql.readBackward)
          .iterate(stream.tenantId, stream.domain, stream.aggregateId, fromVersion, toVersion, limit)
        const { items, more } = takePage(rows as Iterable<StreamRow>, { limit, maxBytes }, sizeOf)
        return { items: fromStreamRows(items, stream), more }
      }),

    version: (stream) => database.read("version", (connection) => versionOf(connection, stream)),

    head: database.read("head", (connection) => (connection.prepare(sql.head).get(events) as [number])[0]),

    readFeed: ({ after, direction, filter, limit, maxBytes, through }) =>
      database.read("feed", (connection) => {
        const { order, params, position, where } = paged(filter)
        const rows = connection
          .prepare(
            `SELECT ${columns} FROM ${events} WHERE ${position} > ? AND ${position} <= ?${where}
             ORDER BY ${order}${direction === "forward" ? "" : " DESC"} LIMIT ?`
          )
          .iterate(after, through, ...params, limit)
        const { items, more } = takePage(rows as Iterable<Row>, { limit, maxBytes }, sizeOf)
        return { items: fromRows(items), more }
      }),

    get: (id) =>
      database.read("get", (connection) => {
        const row = connection.prepare(sql.get).get(id) as Row | undefined
        return row === undefined ? null : fromRow(row)
      }),

    distinct: ({ after, field, filter, limit }) =>
      database.read("distinct", (connection) => {
        const { params, where } = filtered(distinctConditions(field, filter), filter)
        const rows = connection
          .prepare(
            `SELECT DISTINCT ${column[field]} FROM ${events} WHERE ${column[field]} > ?${where} ORDER BY 1 LIMIT ?`
          )
          // No value is empty, so all are greater than the empty string.
          .all(after ?? "", ...params, limit) as Array<[string]>
        return rows.map(([value]) => value)
      }),

    count: (filter) =>
      database.read("count", (connection) => {
        const { params, where } = filtered(conditions, filter)
        return (connection.prepare(`SELECT count(*) FROM ${events} WHERE true${where}`).get(...params) as [number])[0]
      }),

    info: database.read("info", (connection) =>
      connection.db.transaction(() => {
        const [count, streams] = connection.prepare(sql.countAll).get() as [number, number]
        const last = connection.prepare(sql.last).get() as Row | undefined
        return {
          backend: "Sqlite",
          connection: database.connection,
          events: count,
          streams,
          lastEvent: last === undefined ? null : fromRow(last)
        }
      })()
    ),

    update: ({ data, id, keyId, metadata }) =>
      database.write("update", (connection) =>
        connection.atomically("update", () => connection.prepare(sql.update).run(data, metadata, keyId, id).changes > 0)
      ),

    deleteStream: ({ aggregateId, domain, tenantId }) =>
      database.write("deleteStream", (connection) =>
        connection.atomically(
          "deleteStream",
          () => connection.prepare(sql.deleteStream).run(tenantId, domain, aggregateId).changes
        )
      ),

    reset: Effect.asVoid(
      database.write("reset", (connection) => connection.atomically("reset", () => connection.prepare(sql.reset).run()))
    ),

    hints: hints.register
  }
}

const isExpected = (expected: ExpectedVersion, actual: number): boolean =>
  expected === "any" ||
  (expected === "noStream" ? actual === 0 : expected === "streamExists" ? actual > 0 : actual === expected)

/**
 * A filter for pages in order of position, as SQL text, the same for each shape of filter, and what to bind. By itself,
 * SQLite may look up part of a stream's address in the index and sort all events found, for every page; `+` keeps a
 * column from being looked up. Within one stream the index is right: it is in order of version, which is that of
 * position.
 */
const paged = (filter: EncodedFilter) => {
  const wholeStream = filter.tenantId !== null && filter.domain !== null && filter.aggregateId !== null
  return wholeStream
    ? { ...filtered(conditions, filter), position: "+position", order: "version" }
    : { ...filtered(unindexedConditions, filter), position: "position", order: "position" }
}

const conditions = eventConditions(anyOf)
const unindexedConditions = eventConditions(anyOf, unindexed)

/**
 * Command ids have an index in their order. SQLite would look up the tenant instead, read its rows all over the file,
 * and sort them. A single aggregate has few rows.
 */
const distinctConditions = (field: DistinctField, { aggregateId }: EncodedFilter) =>
  field === "commandId" && aggregateId === null ? unindexedConditions : conditions
