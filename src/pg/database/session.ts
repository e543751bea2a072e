/**
 * What a session of the server is set to. The stores need some settings of their own; the user's statements run under
 * those that the server gives, and keep what they have set themselves. A session is switched when the other kind of
 * statement comes, in the same round trip where that is possible.
 *
 * Behind a pooler that gives out a session for one transaction at a time (PgBouncer in transaction mode), nothing may
 * outlive a transaction: the next to use that session is another application. Statements have no names there, since the
 * next one may run in another session.
 */
import Pg from "pg"

/** Times in milliseconds, 0 for no limit. */
export interface Timeouts {
  readonly statementTimeoutMs: number
  readonly lockTimeoutMs: number
  readonly idleInTransactionTimeoutMs: number
}

/** Whose statements the session is set for. */
export type Mode = "store" | "user"

type Setting = readonly [name: string, value: string]

const timeouts = ({ lockTimeoutMs, statementTimeoutMs }: Timeouts): ReadonlyArray<Setting> => [
  ["statement_timeout", String(statementTimeoutMs)],
  ["lock_timeout", String(lockTimeoutMs)]
]

/**
 * A plan that was cached while the table was empty scans the whole table for ever after, although the stores' lookups
 * have indexes. Without an index the table is scanned anyway, but at a cost at which the server would compile the
 * query.
 */
const planner: ReadonlyArray<Setting> = [
  ["enable_seqscan", "off"],
  ["jit", "off"]
]

/** Behind a pooler those of the planner are not needed: a statement without a name is planned anew each time. */
const settingsOf = (given: Timeouts & { readonly pooled: boolean }): ReadonlyArray<Setting> =>
  given.pooled ? timeouts(given) : [...planner, ...timeouts(given)]

const set = (name: string, value: string, local: string): string => `set_config('${name}', ${value}, ${local})`

/** None of them is null, so all are made, one after the other. */
const all = (calls: ReadonlyArray<string>): string => calls.map((call) => `${call} is null`).join(" or ")

/** Parameters of the server's own kind, which end with the transaction as the settings do. */
const modeIs = "effect_stores.mode"
const kept = (name: string): string => `effect_stores.${name}`

const keepAndSet = (settings: ReadonlyArray<Setting>, local: string): ReadonlyArray<string> =>
  settings.flatMap(([name, value]) => [
    set(kept(name), `current_setting('${name}')`, local),
    set(name, `'${value}'`, local)
  ])

/** What was kept ends with the transaction; without it, the value that the session began with. */
const setBack = (settings: ReadonlyArray<Setting>, local: string): ReadonlyArray<string> =>
  settings.map(([name]) => set(name, `nullif(current_setting('${kept(name)}', true), '')`, local))

/**
 * To the same mode again changes nothing. Returns no rows, and SET LOCAL would warn outside a transaction. `lasting` is
 * switched only with the session, and not within a transaction.
 */
const toStore = (settings: ReadonlyArray<Setting>, local: string, lasting: ReadonlyArray<Setting> = []): string =>
  `select where case when current_setting('${modeIs}', true) = 'store' then false else ${all([
    set(modeIs, "'store'", local),
    ...keepAndSet(settings, local)
  ])}${unless(local, keepAndSet(lasting, "false"))} end`

const toUser = (settings: ReadonlyArray<Setting>, local: string, lasting: ReadonlyArray<Setting> = []): string =>
  `select where case when current_setting('${modeIs}', true) = 'store' then ${all([
    set(modeIs, "'user'", local),
    ...setBack(settings, local)
  ])}${unless(local, setBack(lasting, "false"))} end`

const unless = (local: string, calls: ReadonlyArray<string>): string =>
  calls.length === 0 ? "" : ` or case when ${local} then false else ${all(calls)} end`

/** Of the statements prepared in each session. They take whether the settings end with the transaction. */
const preparedName = (mode: Mode): string => `effect_stores/to_${mode}`

const idleTimeout = "idle_in_transaction_session_timeout"

/**
 * What a session begins with: prepared for being switched, and set for the stores. One that sees old snapshots would
 * break appends and the feed, whatever the role's default is.
 */
export const sessionSettings = (given: Timeouts): string => {
  const settings = settingsOf({ ...given, pooled: false })
  const idle: ReadonlyArray<Setting> = [[idleTimeout, String(given.idleInTransactionTimeoutMs)]]
  return [
    "set default_transaction_isolation = 'read committed'",
    `prepare "${preparedName("store")}" (boolean) as ${toStore(settings, "$1", idle)}`,
    `prepare "${preparedName("user")}" (boolean) as ${toUser(settings, "$1", idle)}`,
    `execute "${preparedName("store")}" (false)`
  ].join("; ")
}

/** Undoes what a session was set to, each with a semicolon. What was prepared in it stays. */
export const sessionResets: string = [
  "default_transaction_isolation",
  "enable_seqscan",
  "jit",
  "statement_timeout",
  "lock_timeout",
  idleTimeout,
  modeIs
]
  .map((name) => `reset ${name};`)
  .join(" ")

/**
 * What a transaction begins with, behind its BEGIN and in the same round trip, unless the session is set for the stores
 * as a whole. It holds for the transaction whoever works in it.
 */
export const transactionSettings = ({ idleInTransactionTimeoutMs }: Timeouts): string =>
  `; set local ${idleTimeout} = ${idleInTransactionTimeoutMs}`

/** How a session is switched: by a text, or by one of the prepared statements. */
export type Switch =
  | { readonly text: string }
  | { readonly name: string; readonly local: boolean; readonly text: string }

/** Behind a pooler, and for one statement that is a transaction by itself: nothing needs to be kept. */
export const forStatement = (given: Timeouts): Switch => ({
  text: `select where ${all(timeouts(given).map(([name, value]) => set(name, `'${value}'`, "true")))}`
})

export const switchTo = (mode: Mode, given: Timeouts & { readonly pooled: boolean }, local: boolean): Switch => {
  if (given.pooled) return { text: (mode === "store" ? toStore : toUser)(settingsOf(given), "true") }
  const name = preparedName(mode)
  return { name, local, text: `execute "${name}" (${local})` }
}

/**
 * To the user's mode in a transaction that has run no statement yet. These commands take no snapshot, so the statement
 * behind them may still be SET TRANSACTION.
 */
export const firstToUser = (given: Timeouts & { readonly pooled: boolean }): Switch => ({
  text: [...settingsOf(given).map(([name]) => `set local ${name} to default`), `set local ${modeIs} = 'user'`].join(
    "; "
  )
})

/** The driver's own connection, as far as it is used here. */
interface Wire {
  /** The texts of prepared statements by their names. */
  readonly parsedStatements: Record<string, string>
  parse(message: { readonly name: string; readonly text: string }): void
  bind(message: {
    readonly statement: string
    readonly portal: string
    readonly values?: ReadonlyArray<string | null>
  }): void
  describe(message: { readonly type: "P"; readonly name: string }): void
  execute(message: { readonly portal: string; readonly rows: number }): void
  sync(): void
}

/** TypeScript knows the driver's class without its callback. */
type NewQuery = new (
  config: object,
  values: undefined,
  done: (error: unknown, results: unknown) => void
) => Pg.Query & { prepare(wire: Wire): void }
const NewQuery = Pg.Query as unknown as NewQuery

const sendSwitch = (wire: Wire, first: Switch): void => {
  if ("name" in first) wire.bind({ statement: first.name, portal: "", values: [String(first.local)] })
  else {
    wire.parse({ name: "", text: first.text })
    wire.bind({ statement: "", portal: "" })
  }
  wire.execute({ portal: "", rows: 0 })
}

/** For a transaction in which others wait for whoever waits for a lock. */
export const impatient = (lockTimeoutMs: number): Switch => ({
  text: `select where ${set("lock_timeout", `'${lockTimeoutMs}'`, "true")} is null`
})

/**
 * A statement behind a switch, in one round trip: the server runs what comes before one Sync message as one
 * transaction.
 */
export const behind = (
  first: Switch,
  config: Pg.QueryConfig,
  done: (error: unknown, result: Pg.QueryResult | undefined) => void
): Pg.Query => {
  // The driver calls back with one result for each statement.
  const last = (error: unknown, results: unknown) =>
    done(error, Array.isArray(results) ? results[results.length - 1] : (results as Pg.QueryResult | undefined))
  // Without parameters it may be several statements, and a message of the protocol has room for them.
  if (config.values === undefined)
    return new NewQuery({ ...config, text: `${first.text}; ${config.text}` }, undefined, last)
  const query = new NewQuery({ ...config, queryMode: "extended" }, undefined, last)
  const prepare = query.prepare.bind(query)
  query.prepare = (wire) => {
    sendSwitch(wire, first)
    prepare(wire)
  }
  return query
}

/**
 * Statements behind switches, in one round trip and so in one transaction; one without a name is prepared each time.
 * Calls back with one result for each; their rows are arrays. `unsure`: a statement was to be prepared, and may be.
 */
export const together = (
  firsts: ReadonlyArray<Switch>,
  statements: ReadonlyArray<{ readonly name: string; readonly text: string; readonly values: ReadonlyArray<unknown> }>,
  types: Pg.CustomTypesConfig,
  done: (error: unknown, results: ReadonlyArray<Pg.QueryResult> | undefined, unsure: boolean) => void
): Pg.Query => {
  const added = new Map<string, string>()
  let prepared: Record<string, string> = {}
  const query = new NewQuery(
    { text: "", rowMode: "array", types, queryMode: "extended" },
    undefined,
    (error, results) => {
      if (error) return done(error, undefined, added.size > 0)
      for (const [name, text] of added) prepared[name] = text
      done(undefined, (results as ReadonlyArray<Pg.QueryResult>).slice(firsts.length), false)
    }
  )
  query.prepare = (wire) => {
    prepared = wire.parsedStatements
    for (const first of firsts) sendSwitch(wire, first)
    for (const { name, text, values } of statements) {
      if (name === "" || (prepared[name] === undefined && !added.has(name))) {
        wire.parse({ name, text })
        if (name !== "") added.set(name, text)
      }
      const sent = values.map((value) => (value === null || value === undefined ? null : String(value)))
      wire.bind({ statement: name, portal: "", values: sent })
      wire.describe({ type: "P", name: "" })
      wire.execute({ portal: "", rows: 0 })
    }
    wire.sync()
  }
  return query
}
