/**
 * A pool of connections whose waiting is first-in first-out, interruptible and bounded. Used for PostgreSQL (opening is
 * asynchronous) and for SQLite's writer and readers (opening is synchronous).
 *
 * It is our own because no other does all three. Effect 3's semaphore is quadratic in the number of waiters (4,000:
 * 14.8 s against 0.3 s) and serves them out of order. A queue of tokens loses some under interruption. pg-pool has no
 * bound on idle connections, and its waiters cannot leave. The technique is direct hand-over: a released connection
 * goes to the longest waiter, and is never free in between.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import { PoolTimeout, type StoreError, StoreUnavailable } from "../Errors.js"
import type { Limits } from "../Pool.js"

/**
 * Connections open (in use or not) and idle, and operations waiting for one.
 *
 * @since 0.1.0
 * @category models
 */
export interface PoolState {
  readonly open: number
  readonly idle: number
  readonly waiting: number
}

/** How a pool opens and closes its connections. */
export interface Connector<A> {
  /** Calls back once, possibly synchronously. */
  readonly open: (done: (result: A | OpenFailure) => void) => void
  readonly close: (connection: A) => void
  /** Asked before a connection is handed out. One that is not usable is closed. */
  readonly usable: (connection: A) => boolean
}

/** `later`: the server will accept a connection soon (it is full, or starting up), so waiters keep waiting. */
export class OpenFailure {
  constructor(
    readonly error: StoreUnavailable | StoreError,
    readonly later: boolean
  ) {}
}

export type AcquireFailure = PoolTimeout | StoreUnavailable | StoreError

/** One waiter in the queue. Exactly one of the two functions is called, once, unless the waiter leaves before. */
export interface Waiter<A> {
  readonly take: (connection: A) => void
  readonly fail: (error: AcquireFailure) => void
}

interface Entry {
  readonly openedAt: number
  idleSince: number
}

const openRetryMs = 50
const shutdownGraceMs = 5_000

const gauges = {
  open: Metric.gauge("effect_stores_pool_open", { description: "Connections open" }),
  idle: Metric.gauge("effect_stores_pool_idle", { description: "Connections open and unused" }),
  waiting: Metric.gauge("effect_stores_pool_waiting", { description: "Operations waiting for a connection" })
}

export class ConnectionPool<A extends object> {
  private readonly entries = new Map<A, Entry>()
  private readonly idle: Array<A> = []
  // In order of arrival. Deadlines, in epoch milliseconds, are in the same order because all share one timeout.
  private readonly line = new Map<Waiter<A>, number>()
  private opening = 0
  private openingMore = false
  private closed = false
  private drained: (() => void) | undefined
  private lineTimer: NodeJS.Timeout | undefined
  private openTimer: NodeJS.Timeout | undefined
  private readonly sweepTimer: NodeJS.Timeout | undefined
  private readonly gauges

  constructor(
    readonly name: string,
    readonly limits: Limits,
    private readonly connector: Connector<A>,
    /**
     * Without it, no connection is closed for its age and no gauge is kept: for a pool as short-lived as a transaction.
     */
    watched = true
  ) {
    const tagged = (gauge: Metric.Metric.Gauge<number>) => Metric.tagged(gauge, "pool", name)
    this.gauges = watched && { open: tagged(gauges.open), idle: tagged(gauges.idle), waiting: tagged(gauges.waiting) }
    if (!watched) return
    const shortest = Math.min(limits.connMaxIdleTimeMs, limits.connMaxLifetimeMs)
    this.sweepTimer = setInterval(() => this.sweep(), Math.max(20, Math.min(1_000, shortest / 4)))
    this.sweepTimer.unref()
  }

  /** At this moment; connections that are being opened count as open. */
  get state(): PoolState {
    return { open: this.entries.size + this.opening, idle: this.idle.length, waiting: this.line.size }
  }

  /** All open connections, in use or not. */
  get connections(): Iterable<A> {
    return this.entries.keys()
  }

  /** An idle connection at once, if there is one and nobody waits. */
  tryTake(): A | undefined {
    if (this.line.size > 0) return undefined
    for (let connection = this.idle.pop(); connection !== undefined; connection = this.idle.pop()) {
      if (this.connector.usable(connection)) return connection
      this.drop(connection)
    }
    return undefined
  }

  /** Serves the waiter, now or in its turn. */
  take(waiter: Waiter<A>): void {
    if (this.closed) return waiter.fail(this.closedError())
    const connection = this.tryTake()
    if (connection !== undefined) return waiter.take(connection)
    const full = this.entries.size + this.opening >= this.limits.maxOpenConns
    if (full && this.line.size >= this.limits.maxWaiting) return waiter.fail(this.timeoutError(0))
    this.line.set(waiter, Date.now() + this.limits.acquireTimeoutMs)
    this.openMore()
    if (this.line.size > 0 && this.lineTimer === undefined) this.watchLine()
  }

  /** Removes a waiter from the queue. Returns false if it was served already; then it must release its connection. */
  leave(waiter: Waiter<A>): boolean {
    return this.line.delete(waiter)
  }

  /** Releases a connection. `broken`: it must not be used again. */
  release(connection: A, broken = false): void {
    const entry = this.entries.get(connection)
    if (entry === undefined) return
    const now = Date.now()
    const aged = now - entry.openedAt >= this.limits.connMaxLifetimeMs
    if (broken || aged || this.closed || !this.connector.usable(connection)) {
      this.drop(connection)
      if (this.line.size > 0) this.openMore()
      return
    }
    if (this.serve(connection)) return
    if (this.idle.length >= this.limits.maxIdleConns) return this.drop(connection)
    entry.idleSince = now
    this.idle.push(connection)
  }

  /** Closes an idle connection that was found broken. Leaves one in use alone: its user will notice. */
  discardIdle(connection: A): void {
    const at = this.idle.indexOf(connection)
    if (at >= 0) {
      this.idle.splice(at, 1)
      this.drop(connection)
    }
  }

  /** A connection until the scope closes. Waiting for it can be interrupted. */
  readonly acquire: Effect.Effect<A, AcquireFailure, Scope.Scope> = Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      let taken: A | undefined
      const release = Effect.sync(() => {
        if (taken !== undefined) this.release(taken)
      })
      const wait = Effect.async<A, AcquireFailure>((resume) => {
        const waiter: Waiter<A> = {
          take: (connection) => {
            taken = connection
            resume(Effect.succeed(connection))
          },
          fail: (error) => resume(Effect.fail(error))
        }
        this.take(waiter)
        return Effect.sync(() => this.leave(waiter))
      })
      // The finalizer is added first: a connection may be handed over at the same moment as an interrupt.
      return Effect.zipRight(
        Effect.addFinalizer(() => release),
        restore(wait)
      )
    })
  )

  /** Fails all waiters, waits a while for connections in use, and closes everything. */
  readonly shutdown: Effect.Effect<void> = Effect.async<void>((resume) => {
    this.closed = true
    clearInterval(this.sweepTimer)
    clearTimeout(this.openTimer)
    clearTimeout(this.lineTimer)
    const error = this.closedError()
    for (const waiter of [...this.line.keys()]) {
      this.line.delete(waiter)
      waiter.fail(error)
    }
    for (const connection of this.idle.splice(0)) this.drop(connection)
    const finish = () => {
      this.drained = undefined
      clearTimeout(timer)
      for (const connection of [...this.entries.keys()]) this.drop(connection)
      resume(Effect.void)
    }
    const timer = setTimeout(finish, shutdownGraceMs)
    this.drained = finish
    this.checkDrained()
  })

  private serve(connection: A): boolean {
    const next = this.line.keys().next()
    if (next.done) return false
    this.line.delete(next.value)
    next.value.take(connection)
    return true
  }

  private openMore(): void {
    // Opening may fail synchronously and call this again; the loop goes on instead of nesting without end.
    if (this.openTimer !== undefined || this.openingMore) return
    this.openingMore = true
    while (this.opening < this.line.size && this.entries.size + this.opening < this.limits.maxOpenConns) {
      this.opening++
      this.connector.open((result) => {
        this.opening--
        if (result instanceof OpenFailure) this.openFailed(result)
        else this.opened(result)
      })
      if (this.openTimer !== undefined) break
    }
    this.openingMore = false
  }

  private opened(connection: A): void {
    const now = Date.now()
    this.entries.set(connection, { openedAt: now, idleSince: now })
    this.release(connection)
  }

  private openFailed({ error, later }: OpenFailure): void {
    if (this.closed) return this.checkDrained()
    if (later) {
      // Other processes wait for the same server; jitter keeps them apart.
      this.openTimer ??= setTimeout(
        () => {
          this.openTimer = undefined
          this.openMore()
        },
        openRetryMs * (0.5 + Math.random())
      )
      return
    }
    const next = this.line.keys().next()
    if (next.done) return
    this.line.delete(next.value)
    next.value.fail(error)
    this.openMore()
  }

  private drop(connection: A): void {
    if (this.entries.delete(connection)) this.connector.close(connection)
    this.checkDrained()
  }

  private checkDrained(): void {
    if (this.entries.size === 0 && this.opening === 0) this.drained?.()
  }

  private watchLine(): void {
    this.lineTimer = undefined
    // A loop, because thousands of deadlines may have passed at once.
    for (const [waiter, deadline] of this.line) {
      const left = deadline - Date.now()
      if (left > 0) {
        // A timer further away than 2^31 ms fires at once.
        this.lineTimer = setTimeout(() => this.watchLine(), Math.min(left, 2 ** 31 - 1))
        return
      }
      this.line.delete(waiter)
      waiter.fail(this.timeoutError(this.limits.acquireTimeoutMs))
    }
  }

  private sweep(): void {
    const now = Date.now()
    const { connMaxIdleTimeMs, connMaxLifetimeMs } = this.limits
    for (const connection of [...this.idle]) {
      const { idleSince, openedAt } = this.entries.get(connection) as Entry
      if (now - idleSince >= connMaxIdleTimeMs || now - openedAt >= connMaxLifetimeMs) this.discardIdle(connection)
    }
    if (!this.gauges) return
    const { idle, open, waiting } = this.state
    this.gauges.open.unsafeUpdate(open, [])
    this.gauges.idle.unsafeUpdate(idle, [])
    this.gauges.waiting.unsafeUpdate(waiting, [])
  }

  private timeoutError(waitedMs: number): PoolTimeout {
    const { open, waiting } = this.state
    return new PoolTimeout({ waitedMs, open, waiting })
  }

  private closedError(): StoreUnavailable {
    return new StoreUnavailable({ operation: `pool ${this.name}`, retryable: false, cause: new Error("it is closed") })
  }
}
