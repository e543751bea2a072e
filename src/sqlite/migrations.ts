/**
 * The schema of the EventStore in SQLite, as a list of versions, and how a database is brought up to date: all missing
 * versions in one immediate transaction, so that of several processes starting at once one does it and the others find
 * it done.
 */
import { StoreError } from "../Errors.js"
import type { SqliteConnection } from "./connection.js"

interface Migration {
  readonly id: number
  readonly name: string
  readonly sql: (prefix: string) => string
}

/**
 * No table of streams: a stream's version is a seek to the end of the unique index, cheaper than a row to keep.
 * AUTOINCREMENT, because positions must not be used again when the newest events are deleted.
 */
const migrations: ReadonlyArray<Migration> = [
  {
    id: 1,
    name: "events",
    sql: (prefix) => `CREATE TABLE ${prefix}events (
  position     INTEGER PRIMARY KEY AUTOINCREMENT,
  id           TEXT NOT NULL UNIQUE,
  tenant_id    TEXT NOT NULL,
  domain       TEXT NOT NULL,
  aggregate_id TEXT NOT NULL,
  version      INTEGER NOT NULL,
  type         TEXT NOT NULL,
  data         TEXT NOT NULL,
  metadata     TEXT NOT NULL,
  key_id       TEXT,
  command_id   TEXT,
  instance_id  TEXT,
  created_ms   INTEGER NOT NULL,
  UNIQUE (tenant_id, domain, aggregate_id, version)
) STRICT;

CREATE INDEX ${prefix}events_command ON ${prefix}events (command_id) WHERE command_id IS NOT NULL;
`
  }
]

const record = (prefix: string): string => `CREATE TABLE IF NOT EXISTS ${prefix}migrations (
  id         INTEGER PRIMARY KEY,
  name       TEXT NOT NULL,
  applied_at TEXT NOT NULL
) STRICT;
`

const insert = (prefix: string, { id, name }: Migration): string =>
  `INSERT INTO ${prefix}migrations (id, name, applied_at) VALUES (${id}, '${name}', strftime('%Y-%m-%dT%H:%M:%fZ'));`

/** Everything, for an empty database. */
export const sql = (prefix: string): string =>
  [
    "BEGIN IMMEDIATE;\n",
    record(prefix),
    ...migrations.flatMap((migration) => [migration.sql(prefix), insert(prefix, migration)]),
    "\nCOMMIT;\n"
  ].join("\n")

/** What the database lacks. Throws when it has a version that this one does not know. */
export const missing = (connection: SqliteConnection, prefix: string): ReadonlyArray<Migration> => {
  const table = connection
    .prepare("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?")
    .get(`${prefix}migrations`) as [number]
  if (table[0] === 0) return migrations
  const applied = new Map(
    connection.prepare(`SELECT id, name FROM ${prefix}migrations`).all() as Array<[number, string]>
  )
  for (const [id, name] of applied) {
    if (!migrations.some((migration) => migration.id === id && migration.name === name)) {
      throw new StoreError({
        operation: "checking migrations",
        cause: new Error(`the database has the migration ${id} (${name}), made by a newer version of effect-stores`)
      })
    }
  }
  return migrations.filter(({ id }) => !applied.has(id))
}

/** Applies what is missing and answers the names. */
export const apply = (connection: SqliteConnection, prefix: string): ReadonlyArray<string> =>
  connection.atomically("migrate", () => {
    const todo = missing(connection, prefix)
    if (todo.length > 0) connection.db.exec(record(prefix))
    for (const migration of todo) {
      connection.db.exec(migration.sql(prefix))
      connection.db.exec(insert(prefix, migration))
    }
    return todo.map(({ name }) => name)
  })
