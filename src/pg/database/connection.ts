/**
 * One connection to PostgreSQL: opening it, running a statement on it with prompt and harmless interruption, closing
 * it. `PgDatabase` decides which connection runs what.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import Pg from "pg"
import type { Limits } from "../../Pool.js"
import { ConnectionPool, type OpenFailure } from "../../sql/ConnectionPool.js"
import { isPlanDead, openFailure } from "./failures.js"
import { type ConnectionSettings, makeClient } from "./settings.js"

/** A statement with a name is prepared once per connection. */
export interface Query {
  readonly name?: string
  readonly text: string
  readonly values?: Array<unknown>
  readonly rowMode?: "array"
}

/** An interrupted statement may take this long to finish by itself; most do, and the connection lives on. */
const cancelAfterMs = 100

/** How much longer than the statement timeout a connection may be silent before it is given up. */
const silenceGraceMs = 5_000

// All bigints this library stores are safe integers, and its queries return nothing else that needs a parser.
const toNumber = (text: string): number => Number(text)
const toNumbers = (text: string): Array<number | null> =>
  text === "{}"
    ? []
    : text
        .slice(1, -1)
        .split(",")
        .map((item) => (item === "NULL" ? null : Number(item)))
const asIs = (text: string): string => text
const parsers: Record<number, (text: string) => unknown> = {
  20: toNumber,
  23: toNumber,
  1007: toNumbers,
  1016: toNumbers
}
const types = { getTypeParser: (oid: number) => parsers[oid] ?? asIs } as unknown as Pg.CustomTypesConfig

export class PgConnection {
  private active = 0
  private activeSince = 0
  private dead = false
  private status = "I"
  /** Ends a statement that the server refused, once the server reports the state of the transaction. */
  private refused: (() => void) | undefined

  private constructor(
    private readonly client: Pg.Client,
    private readonly settings: ConnectionSettings
  ) {}

  get usable(): boolean {
    return !this.dead
  }

  /** Whether the server says that no transaction is open. */
  get outsideTransaction(): boolean {
    return this.status === "I"
  }

  /**
   * Connects, and gives the session its settings in one round trip. `lost` is called when an idle connection dies.
   * `known`: a connection with these settings has succeeded before.
   */
  static open(
    settings: ConnectionSettings,
    known: boolean,
    lost: (connection: PgConnection) => void,
    done: (result: PgConnection | OpenFailure) => void
  ): void {
    const client = makeClient(Redacted.value(settings.client))
    const connection = new PgConnection(client, settings)
    const failed = (cause: unknown) => {
      connection.close()
      done(openFailure(cause, known))
    }
    const { connection: wire } = client as unknown as {
      readonly connection: {
        on(event: "readyForQuery", listener: (message: { readonly status: string }) => void): void
      }
    }
    // Before the driver's own listener, which calls back for the statement.
    wire.on("readyForQuery", ({ status }) => {
      connection.status = status
      connection.refused?.()
    })
    for (const event of ["error", "end"] as const) {
      client.on(event, () => {
        connection.dead = true
        connection.refused?.()
        lost(connection)
      })
    }
    client.connect((error: Error | null) => {
      if (error) return failed(error)
      // A session that sees old snapshots would break appends and the feed, whatever the role's default is. A plan that
      // was cached while the table was empty scans the whole table for ever after, although the stores' lookups have
      // indexes. Without an index the table is scanned anyway, but at a cost at which the server would compile the
      // query.
      const sql =
        "set default_transaction_isolation = 'read committed'; set enable_seqscan = off; set jit = off; " +
        `set statement_timeout = ${settings.statementTimeoutMs}; set lock_timeout = ${settings.lockTimeoutMs}; ` +
        `set idle_in_transaction_session_timeout = ${settings.idleInTransactionTimeoutMs}`
      client.query(sql, (error) => (error ? failed(error) : done(connection)))
    })
  }

  /**
   * Starts a statement. Interruption calls `abandon`: it waits a moment for the statement to finish, then has the
   * server cancel it, and returns when the statement has ended, so nothing goes on in the background. A connection
   * whose statement was cancelled is not used again, because the request could arrive late and hit another statement.
   */
  start(
    query: Query,
    forStore: boolean,
    done: (error: unknown, result: Pg.QueryResult | undefined) => void
  ): { readonly abandon: Effect.Effect<void> } {
    let settled = false
    let onSettled: (() => void) | undefined
    this.active++
    this.activeSince = Date.now()
    const { name, rowMode, text, values } = query
    const finish = (error: unknown, result: Pg.QueryResult | undefined) => {
      this.refused = undefined
      this.active--
      settled = true
      if (error && name !== undefined && isPlanDead(error)) this.dead = true
      done(error ?? undefined, result)
      onSettled?.()
    }
    const finished = (error: unknown, result: Pg.QueryResult | undefined) => {
      // The driver calls back before the server is ready, and the next user must not get an open transaction.
      if (error instanceof Pg.DatabaseError && !this.dead) this.refused = () => finish(error, result)
      else finish(error, result)
    }
    // The driver's own types would turn bigints into strings; a store's statements return nothing else to parse.
    const config = { name, text, values, rowMode, types: forStore ? types : undefined }
    this.client.query(config as Pg.QueryConfig, finished)
    return {
      abandon: Effect.async<void>((resume) => {
        if (settled) return resume(Effect.void)
        const timer = setTimeout(() => this.cancel(), cancelAfterMs)
        onSettled = () => {
          clearTimeout(timer)
          resume(Effect.void)
        }
      })
    }
  }

  /** Gives up a connection whose server has been silent for longer than any statement may take. */
  checkSilence(nowMs: number): void {
    const { statementTimeoutMs } = this.settings
    if (statementTimeoutMs === 0 || this.active === 0) return
    if (nowMs - this.activeSince > statementTimeoutMs + silenceGraceMs) this.destroy()
  }

  /** Never fails. If the connection is in use, its user gets an error. */
  close(): void {
    this.dead = true
    // A polite end waits for the server, and a dead server never replies.
    if (this.active > 0) this.destroy()
    else this.client.end(() => undefined)
  }

  private destroy(): void {
    this.dead = true
    const { connection } = this.client as unknown as { readonly connection: { readonly stream: { destroy(): void } } }
    connection.stream.destroy()
  }

  /** On a connection of its own: the pool may be exhausted by statements like this one. */
  private cancel(): void {
    this.dead = true
    const { processID } = this.client as unknown as { readonly processID: number }
    const canceller = makeClient({ ...Redacted.value(this.settings.client), connectionTimeoutMillis: 2_000 })
    const end = (error: unknown) => {
      if (error) this.destroy()
      canceller.end(() => undefined)
    }
    canceller.on("error", () => undefined)
    canceller.connect((error: Error | null) => {
      if (error) end(error)
      else canceller.query("select pg_cancel_backend($1)", [processID], end)
    })
  }
}

export type PgPool = ConnectionPool<PgConnection>

/** Connections with these settings, opened as they are needed; closed with the scope. */
export const poolOf = (
  name: string,
  settings: ConnectionSettings,
  limits: Limits
): Effect.Effect<PgPool, never, Scope.Scope> =>
  Effect.gen(function* () {
    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => {
        let known = false
        const pool: PgPool = new ConnectionPool(name, limits, {
          open: (done) =>
            PgConnection.open(
              settings,
              known,
              (lost) => pool.discardIdle(lost),
              (result) => {
                known ||= result instanceof PgConnection
                done(result)
              }
            ),
          close: (connection) => connection.close(),
          // A transaction that was left open would swallow the next statements.
          usable: (connection) => connection.usable && connection.outsideTransaction
        })
        return pool
      }),
      (pool) => pool.shutdown
    )
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        setInterval(() => {
          const now = Date.now()
          for (const connection of pool.connections) connection.checkSilence(now)
        }, 1_000).unref()
      ),
      (timer) => Effect.sync(() => clearInterval(timer))
    )
    return pool
  })
