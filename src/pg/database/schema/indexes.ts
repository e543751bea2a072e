/**
 * Indexes by choice. On a table that is new they are created with it. On one that has rows already they are built while
 * appends go on, which takes a statement outside of any transaction and a session of its own. A build that was
 * interrupted leaves an index behind that is not valid: it is dropped and built again.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type Pg from "pg"
import type { StoreFailure } from "../../../Errors.js"
import type { Statement, StoreAccess } from "../access.js"
import { classify } from "../failures.js"
import type { Names } from "../names.js"
import { makeClient } from "../settings.js"

/** Of a table, by name without the prefix: what each index is of. */
export interface Indexes {
  readonly table: string
  readonly indexes?: { readonly [name: string]: string }
}

const create = (names: Names, { indexes = {}, table }: Indexes, index: string, how = ""): string =>
  `create index ${how}${names.bare(`${table}_${index}`)} on ${names.qualified(table)} ${indexes[index]};`

/** All of them, for a table without rows. */
export const script = (names: Names, indexed: Indexes): string =>
  Object.keys(indexed.indexes ?? {})
    .map((index) => create(names, indexed, index))
    .join("\n")

/** The indexes of a table that there are, each with whether it is valid, and whether somebody is building it. */
const existingText = (names: Names, table: string): string =>
  `select substr(c.relname, ${names.plain(table).length + 2}) as name, i.indisvalid::int as valid, p.pid as builder
   from pg_index i
   join pg_class c on c.oid = i.indexrelid
   join pg_class t on t.oid = i.indrelid
   join pg_namespace n on n.oid = t.relnamespace
   left join pg_stat_progress_create_index p on p.index_relid = i.indexrelid and p.datname = current_database()
   where n.nspname = '${names.schema}' and t.relname = '${names.plain(table)}'`

interface Row {
  readonly name: string
  readonly valid: number
  readonly builder: number | null
}

type State = "valid" | "building" | "invalid"

const existing = (names: Names, table: string): Statement<ReadonlyMap<string, State>, "read"> => ({
  text: existingText(names, table),
  operation: "checking indexes",
  kind: "read",
  onResult: ({ rows }) => byName(rows)
})

const byName = (rows: ReadonlyArray<Row>): ReadonlyMap<string, State> =>
  new Map(
    rows.map(({ builder, name, valid }) => [
      name,
      Number(valid) === 1 ? "valid" : builder === null ? "invalid" : "building"
    ])
  )

/** The names of the indexes of a table, without the prefix and the table's own, that can be used. */
export const valid = (names: Names, table: string): Statement<ReadonlySet<string>, "read"> => ({
  ...existing(names, table),
  onResult: ({ rows }) => new Set([...byName(rows)].flatMap(([name, state]) => (state === "valid" ? [name] : [])))
})

const lacking = ({ indexes = {} }: Indexes, existing: ReadonlyMap<string, State>): ReadonlyArray<string> =>
  Object.keys(indexes).filter((index) => existing.get(index) !== "valid")

/** Whether somebody is at one of them who does not take the lock, as one who builds it by hand. */
const isAwaited = (indexes: ReadonlyArray<string>, existing: ReadonlyMap<string, State>): boolean =>
  indexes.some((index) => existing.get(index) === "building")

/** Those that the database lacks, as it calls them. */
export const missing = (
  database: StoreAccess,
  names: Names,
  indexed: Indexes
): Effect.Effect<ReadonlyArray<string>, StoreFailure> =>
  Object.keys(indexed.indexes ?? {}).length === 0
    ? Effect.succeed([])
    : Effect.map(database.run(existing(names, indexed.table)), (existing) =>
        lacking(indexed, existing).map((index) => names.plain(`${indexed.table}_${index}`))
      )

/** Several processes may do it at once: one builds, and the others wait. Returns the names of those built here. */
export const build = (
  database: StoreAccess,
  names: Names,
  indexed: Indexes
): Effect.Effect<ReadonlyArray<string>, StoreFailure> =>
  Effect.map(
    Effect.withFiberRuntime<ReadonlyArray<string>, StoreFailure>((fiber) => {
      const { listener } = database.settings
      if (database.inTransaction(fiber)) return inOwnTransaction(database, names, indexed)
      return listener === undefined
        ? inTransactions(database, names, indexed)
        : besideAppends(Redacted.value(listener), names, indexed)
    }),
    (built) => built.map((index) => names.plain(`${indexed.table}_${index}`))
  )

const lockOf = (names: Names, table: string): string =>
  `hashtext('effect-stores indexes'), hashtext('${names.schema}.${names.plain(table)}')`

const drop = (names: Names, table: string, index: string, how = ""): string =>
  `drop index ${how}if exists ${names.qualified(`${table}_${index}`)};`

/** A build takes as long as it takes. Only newer servers have a limit for transactions. */
const unlimited = (settings: ReadonlyArray<string>, local: boolean): string =>
  `select set_config(name, '0', ${local}) from pg_settings
   where name in (${settings.map((name) => `'${name}'`).join(", ")})`

const runOn =
  (database: StoreAccess) =>
  (text: string): Effect.Effect<void, StoreFailure> =>
    database.run<void, "write">({ text, operation: "migrate", kind: "write", onResult: () => undefined })

/** Drops and builds those that are lacking: appends wait meanwhile. */
const replaced = (database: StoreAccess, names: Names, indexed: Indexes, todo: ReadonlyArray<string>) =>
  Effect.forEach(todo, (index) =>
    Effect.as(runOn(database)(`${drop(names, indexed.table, index)} ${create(names, indexed, index)}`), index)
  )

/** The caller may have locked the table: waiting in a statement, it is part of a deadlock that the server sees. */
const inOwnTransaction = (database: StoreAccess, names: Names, indexed: Indexes) =>
  database.transaction(
    Effect.gen(function* () {
      yield* runOn(database)(`select pg_advisory_xact_lock(${lockOf(names, indexed.table)})`)
      const there = yield* database.run(existing(names, indexed.table))
      return yield* replaced(database, names, indexed, lacking(indexed, there))
    })
  )

/** Between two looks whether another process has finished. */
const pollMs = 100

/** Where no session can be had: in a transaction, when nobody else is at them. */
const inTransactions = (
  database: StoreAccess,
  names: Names,
  indexed: Indexes
): Effect.Effect<ReadonlyArray<string>, StoreFailure> => {
  const locked: Statement<boolean> = {
    text: `select pg_try_advisory_xact_lock(${lockOf(names, indexed.table)}) as taken`,
    operation: "migrate",
    kind: "write",
    onResult: ({ rows }) => rows[0].taken === "t"
  }
  const attempt = database.transaction(
    Effect.gen(function* () {
      const isLocked = yield* database.run(locked)
      const there = yield* database.run(existing(names, indexed.table))
      const todo = lacking(indexed, there)
      if (todo.length === 0) return todo
      if (!isLocked || isAwaited(todo, there)) return undefined
      yield* runOn(database)(unlimited(["statement_timeout", "transaction_timeout"], true))
      return yield* replaced(database, names, indexed, todo)
    })
  )
  return Effect.flatMap(attempt, (built) =>
    built === undefined ? Effect.zipRight(pause, inTransactions(database, names, indexed)) : Effect.succeed(built)
  )
}

/**
 * 1. Tries the lock, again and again: whoever waited for it in a statement would be one of those whose end the build
 *    waits for.
 * 2. Looks again what there is. What somebody builds without the lock is waited for likewise.
 * 3. Drops what is not valid, and builds.
 */
const besideAppends = (
  config: Pg.ClientConfig,
  names: Names,
  indexed: Indexes
): Effect.Effect<ReadonlyArray<string>, StoreFailure> =>
  Effect.scoped(
    Effect.gen(function* () {
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => makeClient(config).on("error", () => undefined)),
        (client) => Effect.promise(() => client.end().catch(() => undefined))
      )
      const attempt = <A>(run: () => Promise<A>) =>
        Effect.tryPromise({ try: run, catch: (cause) => classify(cause, "read", "migrate") })
      const run = (text: string) => attempt(() => client.query(text))
      const { table } = indexed
      const look = Effect.map(run(existingText(names, table)), ({ rows }) => byName(rows))
      const locked = Effect.map(
        run(`select pg_try_advisory_lock(${lockOf(names, table)}) as taken`),
        ({ rows }): boolean => rows[0].taken
      )
      const built = (index: string) =>
        Effect.as(
          Effect.zipRight(
            run(drop(names, table, index, "concurrently ")),
            run(create(names, indexed, index, "concurrently "))
          ),
          index
        )
      yield* attempt(() => client.connect())
      // It waits for all transactions that are open when it begins.
      yield* run(unlimited(["statement_timeout", "transaction_timeout", "lock_timeout"], false))
      yield* run("set default_transaction_isolation = 'read committed'")
      let isLocked = yield* locked
      let there = yield* look
      for (;;) {
        const todo = lacking(indexed, there)
        if (todo.length === 0) return todo
        if (isLocked && !isAwaited(todo, there)) return yield* Effect.forEach(todo, built)
        yield* pause
        isLocked ||= yield* locked
        there = yield* look
      }
    })
  )

// In real time: the server knows no test's clock.
const pause = Effect.async<void>((resume) => {
  const timer = setTimeout(() => resume(Effect.void), pollMs)
  return Effect.sync(() => clearTimeout(timer))
})
