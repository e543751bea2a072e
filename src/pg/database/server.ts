/**
 * What is looked at when a database opens: what the server is, and whether there is a pooler before it that must be
 * named.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type Pg from "pg"
import { StoreError, type StoreFailure } from "../../Errors.js"
import type { Statement, StoreAccess } from "./access.js"
import type { PgConnection, PgPool } from "./connection.js"
import { classify } from "./failures.js"
import { sessionResets } from "./session.js"
import { type ConnectionSettings, insideOf, makeClient } from "./settings.js"

const operation = "examining the server"

const refuse = (why: string) => new StoreError({ operation, cause: new Error(why) })

/** Settings, and what else is known of a session, by name. */
const facts = `
  select name, setting from pg_settings where name in (
    'server_version_num', 'server_encoding', 'max_connections', 'superuser_reserved_connections', 'fsync',
    'full_page_writes', 'synchronous_commit', 'default_transaction_isolation', 'transaction_read_only'
  )
  union all select 'session', pg_backend_pid()::text
  union all select 'in recovery', pg_is_in_recovery()::text`

type Facts = ReadonlyMap<string, string>

const statement: Statement<Facts, "read"> = {
  text: facts,
  operation,
  kind: "read",
  onResult: ({ rows }) => new Map(rows.map(({ name, setting }) => [String(name), String(setting)]))
}

const factsOf = (connection: PgConnection): Effect.Effect<Facts, StoreFailure> =>
  Effect.async((resume) => {
    const { abandon } = connection.start(statement, true, (error, result) => {
      if (error !== undefined || result === undefined) return resume(Effect.fail(classify(error, "read", operation)))
      resume(Effect.succeed(statement.onResult(result)))
    })
    return abandon
  })

const judge = (found: Facts, maxOpenConns?: number): Effect.Effect<void, StoreFailure> =>
  Effect.gen(function* () {
    const refused = reasonAgainst(found)
    if (refused !== undefined) return yield* refuse(refused)
    for (const warning of warnings(found, maxOpenConns)) yield* Effect.logWarning(warning)
  })

/** The same over a client of the application, whose connections are its own affair. */
export const examineClient = (run: StoreAccess["run"]): Effect.Effect<void, StoreFailure> =>
  Effect.flatMap(run(statement), (found) => judge(found))

/**
 * What a server must be, and what its operator should know. A pooler that lends the sessions of the server for a
 * transaction each must be named:
 *
 * 1. The server says which process it is, and has said so when the session began. Behind any pooler the two differ: if
 *    they agree, there is none.
 * 2. While that connection is open, a second one asks the same. Both can be in one session of the server only if the
 *    pooler has taken it from the first after its statement. Then what was set in it is reset.
 *
 * Under the load of others, such a pooler may give the second another session. Then it is not found here, and later a
 * statement fails that was prepared elsewhere.
 */
export const examineServer = (
  pool: PgPool,
  settings: ConnectionSettings,
  counted: boolean
): Effect.Effect<void, StoreFailure> =>
  Effect.gen(function* () {
    const connection = yield* pool.acquire
    const found = yield* factsOf(connection)
    const session = Number(found.get("session"))
    if (!settings.pooled && session !== connection.processId && (yield* isShared(session, settings))) {
      return yield* refuse(
        "a pooler lends the sessions of the server for one transaction at a time: " +
          'give the option pooler: "transaction" (the variable PG_POOLER)'
      )
    }
    yield* judge(found, settings.pooled || counted ? undefined : pool.limits.maxOpenConns)
  }).pipe(Effect.scoped)

const reasonAgainst = (found: Facts): string | undefined => {
  if (Number(found.get("server_version_num")) < 130_000) return "PostgreSQL 13 or newer is needed"
  if (found.get("server_encoding") !== "UTF8")
    return `the database must have the encoding UTF8, not ${found.get("server_encoding")}`
  // In a session of our own it is set.
  if (found.get("default_transaction_isolation") !== "read committed")
    return "the user of the database must have default_transaction_isolation = read committed"
  return undefined
}

/** `maxOpenConns`: of a pool whose size is looked at. */
const warnings = (found: Facts, maxOpenConns: number | undefined): ReadonlyArray<string> => {
  const warnings: Array<string> = []
  const allowed = Number(found.get("max_connections")) - Number(found.get("superuser_reserved_connections"))
  // One more connection listens for appends of other processes.
  if (maxOpenConns !== undefined && maxOpenConns + 1 > allowed) {
    warnings.push(
      `the pool may open ${maxOpenConns} connections and a listener, the server allows ${allowed} to all its clients`
    )
  }
  for (const setting of ["fsync", "full_page_writes", "synchronous_commit"]) {
    if (found.get(setting) === "off")
      warnings.push(`the server has ${setting} off: acknowledged events may be lost when it crashes`)
  }
  if (found.get("in recovery") === "true")
    warnings.push("the server is a standby: writes, and the feed of events, fail until it is promoted")
  else if (found.get("transaction_read_only") === "on")
    warnings.push("the server lets this user only read (default_transaction_read_only is on): writes fail")
  return warnings
}

/** A pooler may have no session for a second connection until the first gives its own back. */
const secondMaxMs = 1_000

/** Whether a second connection is in the session, too; false if there can be none. */
const isShared = (session: number, settings: ConnectionSettings): Effect.Effect<boolean> =>
  Effect.async((resume) => {
    const client = makeClient(Redacted.value(settings.client))
    const { connection } = insideOf(client)
    const done = (found: boolean, isPolite = false) => {
      clearTimeout(timer)
      if (isPolite) client.end(() => undefined)
      else connection.stream.destroy()
      resume(Effect.succeed(found))
    }
    const timer = setTimeout(() => done(false), secondMaxMs)
    client.on("error", () => {})
    client.connect((error: Error | null) => {
      if (error) return done(false)
      client.query(
        `do $$ begin if pg_backend_pid() = ${session} then ${sessionResets} end if; end $$;
         select pg_backend_pid() as pid`,
        (error: Error | null, results: unknown) => {
          // The driver calls back with one result for each statement.
          const result = Array.isArray(results) ? (results[1] as Pg.QueryResult) : undefined
          done(!error && Number(result?.rows[0]?.pid) === session, true)
        }
      )
    })
    return Effect.sync(() => {
      clearTimeout(timer)
      connection.stream.destroy()
    })
  })
