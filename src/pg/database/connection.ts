/**
 * One connection to PostgreSQL: opening it, running a statement on it with prompt and harmless interruption, closing
 * it. `PgDatabase` decides which connection runs what.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import Pg from "pg"
import type { PoolMeter } from "../../internal/telemetry.js"
import type { Limits } from "../../Pool.js"
import { ConnectionPool, type OpenFailure } from "../../sql/ConnectionPool.js"
import { isPlanDead, openFailure } from "./failures.js"
import {
  behind,
  firstToUser,
  forStatement,
  impatient,
  type Mode,
  sessionSettings,
  switchTo,
  together
} from "./session.js"
import { type ConnectionSettings, insideOf, makeClient } from "./settings.js"

/** A statement with a name is prepared once per connection. */
export interface Query {
  readonly name?: string
  readonly text: string
  readonly values?: Array<unknown>
  readonly rowMode?: "array"
  /** Sent as it is, whatever the session is set to: it begins or ends a transaction. */
  readonly bare?: boolean
}

/** An interrupted statement may take this long to finish by itself; most do, and the connection lives on. */
const cancelAfterMs = 100

/** How long a request to cancel may take, and behind a pooler its effect. */
const cancelMaxMs = 2_000

/** Connections unused for so long are looked at before they are used. */
const restMs = 100

/** How much longer than the statement timeout a connection may be silent before it is given up. */
const silenceGraceMs = 5_000

/** Statements of the user that run in whatever transaction they come in. */
const goesTogether = /^\s*(select|insert|update|delete|merge|with|values)\b/i

/** What sets back in the open transaction what was set in it: to a savepoint, or by ending it and beginning another. */
const goesBack = /^\s*(rollback|abort|commit|end)\b/i

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

/** How the driver reads the rows of a store's statements. */
export const types = { getTypeParser: (oid: number) => parsers[oid] ?? asIs } as unknown as Pg.CustomTypesConfig

export class PgConnection {
  private active = 0
  /** Since when a statement runs that the server must end in time; 0 if none does. */
  private boundedSince = 0
  private dead = false
  /** Of a session that has ended while it did nothing: why, if the server has said so. */
  private said: unknown
  private status = "I"
  /** What the session is set to; undefined if a failure or a rollback may have set it back. */
  private mode: Mode | undefined
  /** The open transaction has run no statement yet. */
  private fresh = false
  /** The session was switched in the open transaction, and its end sets it back. */
  private switched = false
  /** Ends a statement that the server refused, once the server reports the state of the transaction. */
  private refused: (() => void) | undefined

  private constructor(
    private readonly client: Pg.Client,
    private readonly settings: ConnectionSettings
  ) {}

  get usable(): boolean {
    return !this.dead
  }

  /** What the server said when it ended the session. */
  get endedBy(): unknown {
    return this.said
  }

  /** The process of the server, as it was told when the session began. A pooler tells a number of its own. */
  get processId(): number {
    return insideOf(this.client).processID
  }

  /** Whether a transaction that begins now must set what the stores need of it. */
  get needsSettings(): boolean {
    return this.settings.pooled || this.mode !== "store"
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
    // Before the driver's own listener, which calls back for the statement.
    insideOf(client).connection.on("readyForQuery", ({ status }) => {
      connection.status = status
      connection.refused?.()
    })
    for (const event of ["error", "end"] as const) {
      client.on(event, (error?: Error) => {
        connection.dead = true
        connection.said ??= error
        connection.refused?.()
        lost(connection)
      })
    }
    client.connect((error: Error | null) => {
      if (error) return failed(error)
      if (settings.pooled) return done(connection)
      connection.mode = "store"
      client.query(sessionSettings(settings), (error) => (error ? failed(error) : done(connection)))
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
    return this.begin<Pg.QueryResult>(query, forStore, done, (switching, mode, inside, finished) => {
      const { name, rowMode, text, values } = query
      // The driver's own types would turn bigints into strings; a store's statements return nothing else to parse.
      const config = { text, values, rowMode, types: forStore ? types : undefined } as Pg.QueryConfig
      const named = this.settings.pooled || name === undefined ? config : { ...config, name }
      if (switching) this.sendSwitching(named, mode, inside, finished)
      else this.client.query(named, finished)
    })
  }

  /**
   * Starts statements of stores, outside a transaction, in one round trip and so as one transaction. None of them waits
   * for a lock for longer than `lockTimeoutMs`.
   */
  startTogether(
    queries: ReadonlyArray<Query>,
    lockTimeoutMs: number,
    done: (error: unknown, results: ReadonlyArray<Pg.QueryResult> | undefined) => void
  ): void {
    const { settings } = this
    this.begin<ReadonlyArray<Pg.QueryResult>>(queries[0] as Query, true, done, (switching, mode, _, finished) => {
      const toMode = settings.pooled ? forStatement(settings) : switchTo(mode, settings, false)
      const firsts = switching ? [toMode, impatient(lockTimeoutMs)] : [impatient(lockTimeoutMs)]
      const statements = queries.map(({ name = "", text, values = [] }) => ({
        name: settings.pooled ? "" : name,
        text,
        values
      }))
      const last = (error: unknown, results: ReadonlyArray<Pg.QueryResult> | undefined, unsure: boolean) => {
        if (unsure) this.dead = true
        finished(error, results)
      }
      this.client.query(together(firsts, statements, types, last))
    })
  }

  private begin<R>(
    query: Query,
    forStore: boolean,
    done: (error: unknown, result: R | undefined) => void,
    send: (
      switching: boolean,
      mode: Mode,
      inside: boolean,
      finished: (error: unknown, result: R | undefined) => void
    ) => void
  ): { readonly abandon: Effect.Effect<void> } {
    let settled = false
    let onSettled: (() => void) | undefined
    const inside = !this.outsideTransaction
    const aborted = this.status === "E"
    const mode: Mode = forStore ? "store" : "user"
    const { bare, name } = query
    // In a transaction that has failed only its end, or a return to a savepoint, can follow: none needs a switch.
    const switching = bare !== true && this.mode !== mode && !aborted
    this.active++
    // The end of the user's transaction may do the user's work: deferred triggers.
    if (forStore && !(bare === true && inside && this.mode !== "store")) this.boundedSince = Date.now()
    const finish = (error: unknown, result: R | undefined) => {
      // For a value that it cannot send the driver calls back twice: at once, and when the server is ready again.
      if (settled) return
      this.refused = undefined
      this.active--
      this.boundedSince = 0
      settled = true
      if (error && (name !== undefined || switching) && isPlanDead(error)) this.dead = true
      this.note(query, mode, switching, inside, Boolean(error))
      if (aborted) this.mode = undefined
      done(error ?? undefined, result)
      onSettled?.()
    }
    const finished = (error: unknown, result: R | undefined) => {
      // The driver calls back before the server is ready, and the next user must not get an open transaction.
      if (error instanceof Pg.DatabaseError && !this.dead) this.refused = () => finish(error, result)
      else finish(error, result)
    }
    send(switching, mode, inside, finished)
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

  /** A statement, and before it what switches the session. */
  private sendSwitching(
    config: Pg.QueryConfig,
    mode: Mode,
    inside: boolean,
    done: (error: unknown, result: Pg.QueryResult | undefined) => void
  ): void {
    const { client, fresh, settings } = this
    if (settings.pooled && !inside) {
      // The session is as the server gives it, and must be left so.
      if (mode === "store") client.query(behind(forStatement(settings), config, done))
      else client.query(config, done)
      return
    }
    this.switched ||= inside
    const isFirst = fresh && mode === "user"
    const first = isFirst ? firstToUser(settings) : switchTo(mode, settings, inside)
    if (mode === "store" || (!isFirst && config.values !== undefined && goesTogether.test(config.text))) {
      client.query(behind(first, config, done))
      return
    }
    // Others of the user's must be alone (VACUUM, CALL), or the first of their transaction.
    client.query(first.text, (error: Error | null) => {
      if (error) done(error, undefined)
      else if (this.dead) done(new Error("the connection was given up"), undefined)
      else client.query(config, done)
    })
  }

  /** What the session is set to after a statement. `switching`: it was sent behind a switch. */
  private note({ bare, text }: Query, mode: Mode, switching: boolean, wasInside: boolean, failed: boolean): void {
    const inside = !this.outsideTransaction
    const { pooled } = this.settings
    if (bare === true && inside && !wasInside) {
      this.fresh = true
      if (pooled) this.mode = "user"
      return
    }
    if (bare !== true) {
      this.fresh = false
      if (!failed && (wasInside || !pooled)) this.mode = mode
    }
    const undone = failed || !inside || goesBack.test(text)
    if ((switching && failed) || (this.switched && undone)) this.mode = undefined
    if (!inside) {
      this.fresh = false
      this.switched = false
    }
  }

  /** Gives up a connection whose server has been silent for longer than any statement may take. */
  checkSilence(nowMs: number): void {
    const { statementTimeoutMs } = this.settings
    if (statementTimeoutMs === 0 || this.boundedSince === 0) return
    if (nowMs - this.boundedSince > statementTimeoutMs + silenceGraceMs) this.destroy()
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
    insideOf(this.client).connection.stream.destroy()
  }

  /**
   * By a request of the protocol, which needs neither a session nor a password: the pool and the server may be full.
   * And a pooler knows whom it means, while the number of the process is not the one that the pooler has told.
   */
  private cancel(): void {
    this.dead = true
    const { processID, secretKey } = insideOf(this.client)
    const { host = "", port = 0, ssl } = Redacted.value(this.settings.client)
    const { connection: wire } = insideOf(makeClient(Redacted.value(this.settings.client)))
    const timer = setTimeout(() => end(true), cancelMaxMs)
    const end = (inVain: boolean) => {
      clearTimeout(timer)
      wire.stream.destroy()
      // Whoever waits for it in a pooler is not reached by a request.
      if (inVain) this.destroy()
      else if (this.settings.pooled) setTimeout(() => this.destroy(), cancelMaxMs).unref()
    }
    wire.on("error", () => end(true))
    // The server closes it when the request was passed on.
    wire.on("end", () => end(false))
    wire.on("connect", () => (ssl ? wire.requestSsl() : wire.cancel(processID, secretKey)))
    wire.on("sslconnect", () => wire.cancel(processID, secretKey))
    if (host.startsWith("/")) wire.connect(`${host}/.s.PGSQL.${port}`)
    else wire.connect(port, host)
  }
}

export type PgPool = ConnectionPool<PgConnection>

/** Connections with these settings, opened as they are needed; closed with the scope. */
export const poolOf = (
  name: string,
  meter: PoolMeter,
  settings: ConnectionSettings,
  limits: Limits
): Effect.Effect<PgPool, never, Scope.Scope> =>
  Effect.gen(function* () {
    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => {
        let known = false
        const pool: PgPool = new ConnectionPool(
          name,
          limits,
          {
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
            restMs,
            // A transaction that was left open would swallow the next statements.
            usable: (connection) => connection.usable && connection.outsideTransaction
          },
          meter
        )
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
