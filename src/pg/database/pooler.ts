/**
 * What differs behind a pooler that gives out a session of the server for one transaction at a time (PgBouncer in
 * transaction mode). Statements have no names, since the next one may run in another session. What the stores need of a
 * session is set for one transaction, and never outlives it: the next to use that session is another application.
 *
 * The settings of the planner are not among it. They repair plans that were cached, and a statement without a name is
 * planned anew each time.
 */
import Pg from "pg"

/** Times in milliseconds, 0 for no limit. */
export interface Timeouts {
  readonly statementTimeoutMs: number
  readonly lockTimeoutMs: number
  readonly idleInTransactionTimeoutMs: number
}

/** What a transaction begins with, behind its BEGIN and in the same round trip. */
export const transactionSettings = (timeouts: Timeouts): string =>
  `; set local statement_timeout = ${timeouts.statementTimeoutMs}; set local lock_timeout = ${timeouts.lockTimeoutMs}` +
  `; set local idle_in_transaction_session_timeout = ${timeouts.idleInTransactionTimeoutMs}`

/** The same before a statement that is a transaction by itself. It returns no rows, and SET LOCAL would warn. */
export const statementSettings = (timeouts: Timeouts): string =>
  `select where set_config('statement_timeout', '${timeouts.statementTimeoutMs}', true) is null
   or set_config('lock_timeout', '${timeouts.lockTimeoutMs}', true) is null`

/** The driver's own connection, as far as it is used here. */
interface Wire {
  parse(message: { readonly name: string; readonly text: string }): void
  bind(message: { readonly statement: string; readonly portal: string }): void
  execute(message: { readonly portal: string; readonly rows: number }): void
}

/**
 * A statement behind its settings, in one round trip: the server runs what comes before one Sync message as one
 * transaction.
 */
export const withSettings = (
  config: Pg.QueryConfig,
  settings: string,
  done: (error: unknown, result: Pg.QueryResult | undefined) => void
): Pg.Query => {
  // The driver calls back with one result for each statement.
  const last = (error: unknown, results: unknown) =>
    done(error, Array.isArray(results) ? results[results.length - 1] : (results as Pg.QueryResult | undefined))
  // TypeScript knows the driver's class without its callback.
  const make = Pg.Query as unknown as new (config: object, values: undefined, done: typeof last) => Pg.Query
  // Without parameters it may be several statements, and a message of the protocol has room for them.
  if (config.values === undefined) return new make({ ...config, text: `${settings}; ${config.text}` }, undefined, last)
  const query = new make({ ...config, queryMode: "extended" }, undefined, last)
  const driver = query as unknown as { prepare(wire: Wire): void }
  const prepare = driver.prepare.bind(query)
  driver.prepare = (wire) => {
    wire.parse({ name: "", text: settings })
    wire.bind({ statement: "", portal: "" })
    wire.execute({ portal: "", rows: 0 })
    prepare(wire)
  }
  return query
}
