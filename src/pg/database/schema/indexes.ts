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

/** The indexes of a table that there are, each with whether it is valid. */
const existingText = (names: Names, table: string): string =>
  `select substr(c.relname, ${names.plain(table).length + 2}) as name, i.indisvalid::int as valid
   from pg_index i
   join pg_class c on c.oid = i.indexrelid
   join pg_class t on t.oid = i.indrelid
   join pg_namespace n on n.oid = t.relnamespace
   where n.nspname = '${names.schema}' and t.relname = '${names.plain(table)}'`

interface Existing {
  readonly name: string
  readonly valid: number
}

const existing = (names: Names, table: string): Statement<ReadonlyMap<string, boolean>, "read"> => ({
  text: existingText(names, table),
  operation: "checking indexes",
  kind: "read",
  onResult: ({ rows }) => byName(rows)
})

const byName = (rows: ReadonlyArray<Existing>): ReadonlyMap<string, boolean> =>
  new Map(rows.map(({ name, valid }) => [name, Number(valid) === 1]))

/** The names of the indexes of a table, without the prefix and the table's own, that can be used. */
export const valid = (names: Names, table: string): Statement<ReadonlySet<string>, "read"> => ({
  ...existing(names, table),
  onResult: ({ rows }) => new Set([...byName(rows)].flatMap(([name, valid]) => (valid ? [name] : [])))
})

const lacking = ({ indexes = {} }: Indexes, existing: ReadonlyMap<string, boolean>): ReadonlyArray<string> =>
  Object.keys(indexes).filter((index) => existing.get(index) !== true)

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

/** Several processes may do it at once: one builds, and the others wait. */
export const build = (database: StoreAccess, names: Names, indexed: Indexes): Effect.Effect<void, StoreFailure> =>
  Effect.withFiberRuntime((fiber) => {
    const { listener } = database.settings
    return listener === undefined || database.inTransaction(fiber)
      ? inTransaction(database, names, indexed)
      : besideAppends(Redacted.value(listener), names, indexed)
  })

const lockOf = (names: Names, table: string): string =>
  `hashtext('effect-stores indexes'), hashtext('${names.schema}.${names.plain(table)}')`

const drop = (names: Names, table: string, index: string, how = ""): string =>
  `drop index ${how}if exists ${names.qualified(`${table}_${index}`)};`

/** Where no session can be had, or the table is one's own transaction's: appends wait meanwhile. */
const inTransaction = (database: StoreAccess, names: Names, indexed: Indexes): Effect.Effect<void, StoreFailure> => {
  const run = (text: string) =>
    database.run<void, "write">({ text, operation: "migrate", kind: "write", onResult: () => undefined })
  return database.transaction(
    Effect.gen(function* () {
      yield* run(`select pg_advisory_xact_lock(${lockOf(names, indexed.table)})`)
      for (const index of lacking(indexed, yield* database.run(existing(names, indexed.table)))) {
        yield* run(`${drop(names, indexed.table, index)} ${create(names, indexed, index)}`)
      }
    })
  )
}

/** Between two looks whether another process has finished. */
const pollMs = 100

/**
 * 1. Tries the lock, again and again: whoever waited for it in a statement would be one of those whose end the build
 *    waits for.
 * 2. Looks again what there is, drops what is not valid, and builds.
 */
const besideAppends = (config: Pg.ClientConfig, names: Names, indexed: Indexes): Effect.Effect<void, StoreFailure> =>
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
      const todo = Effect.map(run(existingText(names, table)), ({ rows }) => lacking(indexed, byName(rows)))
      const locked = Effect.map(
        run(`select pg_try_advisory_lock(${lockOf(names, table)}) as taken`),
        ({ rows }): boolean => rows[0].taken
      )
      yield* attempt(() => client.connect())
      // A build takes as long as it takes, and waits for all transactions that are open when it begins.
      yield* run(
        "set statement_timeout = 0; set lock_timeout = 0; set default_transaction_isolation = 'read committed'"
      )
      while (!(yield* locked)) {
        if ((yield* todo).length === 0) return
        yield* pause
      }
      for (const index of yield* todo) {
        yield* run(drop(names, table, index, "concurrently "))
        yield* run(create(names, indexed, index, "concurrently "))
      }
    })
  )

// In real time: the server knows no test's clock.
const pause = Effect.async<void>((resume) => {
  const timer = setTimeout(() => resume(Effect.void), pollMs)
  return Effect.sync(() => clearTimeout(timer))
})
