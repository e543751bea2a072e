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
import type * as Scope from "effect/Scope"
import { PoolTimeout, type StoreError, StoreUnavailable } from "../Errors.js"
import type { PoolMeter } from "../internal/telemetry.js"
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
  /**
   * A connection that was unused for so long is handed out only after the event loop has turned: by then it is known
   * whether the other side has closed it meanwhile. Absent where there is no other side.
   */
  readonly restMs?: number
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
  readonly expiresAt: number
  idleSince: number
}

/** Connections that were opened together do not all end together. */
const lifetimeJitter = 0.1

/**
 * How long more than `maxIdleConns` may be idle. Closed at once, they would be opened again by callers that do
 * something else between two operations: 20 that ask Redis in between made an eighth of their loads.
 */
const surplusMs = 1_000

const openRetryMs = 50
const shutdownGraceMs = 5_000

export class ConnectionPool<A extends object> {
  private readonly entries = new Map<A, Entry>()
  private readonly idle: Array<A> = []
  /** Who waits, since when (epoch milliseconds), in order of arrival. All share one timeout. */
  private readonly line = new Map<Waiter<A>, number>()
  private opening = 0
  private openingMore = false
  /** Connections that were unused and are looked at before they are handed out. */
  private waking = 0
  /** The server took no connection the last time. */
  private refused = false
  private closed = false
  private drained: (() => void) | undefined
  private lineTimer: NodeJS.Timeout | undefined
  private openTimer: NodeJS.Timeout | undefined
  private readonly sweepTimer: NodeJS.Timeout | undefined

  constructor(
    readonly name: string,
    readonly limits: Limits,
    private readonly connector: Connector<A>,
    /** Without it no connection is closed for its age and nothing is reported: for one as short as a transaction. */
    private readonly meter?: PoolMeter
  ) {
    if (meter === undefined) return
    const shortest = Math.min(limits.connMaxIdleTimeMs, limits.connMaxLifetimeMs)
    this.sweepTimer = setInterval(() => this.sweep(), Math.max(20, Math.min(1_000, shortest / 4)))
    this.sweepTimer.unref()
  }

  /** At this moment; connections that are being opened count as open. */
  get state(): PoolState {
    const idle = this.idle.length + this.waking
    return { open: this.entries.size + this.opening, idle, waiting: this.line.size }
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
    if (this.connector.restMs !== undefined) this.wake(this.connector.restMs)
    const connection = this.tryTake()
    if (connection !== undefined) return waiter.take(connection)
    const full = this.entries.size + this.opening >= this.limits.maxOpenConns
    // Those whom a connection serves that is looked at wait for no one.
    if (full && this.line.size - this.waking >= this.limits.maxWaiting) return waiter.fail(this.timeoutError(0))
    this.line.set(waiter, Date.now())
    this.openMore()
    if (this.line.size > 0 && this.lineTimer === undefined) this.watchLine()
  }

  /**
   * Removes a waiter from the queue. Returns false if it was served already; then it must release its connection.
   * `served`: another waiter's connection served it.
   */
  leave(waiter: Waiter<A>, served = false): boolean {
    const since = this.line.get(waiter)
    if (served && since !== undefined) this.meter?.waited(Date.now() - since)
    return this.line.delete(waiter)
  }

  /** Releases a connection. `broken`: it must not be used again. */
  release(connection: A, broken = false): void {
    const entry = this.entries.get(connection)
    if (entry === undefined) return
    const now = Date.now()
    if (broken || now >= entry.expiresAt || this.closed || !this.connector.usable(connection)) {
      this.drop(connection)
      if (this.line.size > 0) this.openMore()
      return
    }
    if (this.serve(connection)) return
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
      // What is still being opened is closed when it is there.
      this.meter?.report({ open: 0, idle: 0, waiting: 0 })
      resume(Effect.void)
    }
    const timer = setTimeout(finish, shutdownGraceMs)
    this.drained = finish
    this.checkDrained()
  })

  private serve(connection: A, hasWaited = true): boolean {
    const next = this.next(hasWaited)
    next?.take(connection)
    return next !== undefined
  }

  /** The longest waiter, who waits no longer. */
  private next(hasWaited = true): Waiter<A> | undefined {
    for (const [waiter, since] of this.line) {
      this.line.delete(waiter)
      if (hasWaited) this.meter?.waited(Date.now() - since)
      return waiter
    }
    return undefined
  }

  /** All that are idle, since a line forms meanwhile, and may need them. Which are fresh is known by the last. */
  private wake(restMs: number): void {
    const last = this.idle[this.idle.length - 1]
    if (last === undefined || Date.now() - (this.entries.get(last) as Entry).idleSince < restMs) return
    for (const connection of this.idle.splice(0)) {
      this.waking++
      // The first may come before the loop looks at its sockets again, the second does not.
      setImmediate(() => setImmediate(() => this.woken(connection)))
    }
  }

  private woken(connection: A): void {
    this.waking--
    if (!this.entries.has(connection)) return
    if (this.closed || !this.connector.usable(connection)) {
      this.drop(connection)
      if (this.line.size > 0) this.openMore()
    } else if (!this.serve(connection, false)) this.idle.push(connection)
  }

  private openMore(): void {
    // Opening may fail synchronously and call this again; the loop goes on instead of nesting without end.
    if (this.openTimer !== undefined || this.openingMore) return
    this.openingMore = true
    while (this.opening < this.wanted && this.entries.size + this.opening < this.limits.maxOpenConns) {
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

  /** Connections that should be under way. A server that is full is asked by one attempt at a time. */
  private get wanted(): number {
    const needed = this.line.size - this.waking
    return this.refused ? Math.min(needed, 1) : needed
  }

  private opened(connection: A): void {
    const now = Date.now()
    const lifetimeMs = this.limits.connMaxLifetimeMs * (1 - lifetimeJitter * Math.random())
    this.entries.set(connection, { expiresAt: now + lifetimeMs, idleSince: now })
    this.release(connection)
    if (!this.refused) return
    this.refused = false
    if (!this.closed) this.openMore()
  }

  private openFailed({ error, later }: OpenFailure): void {
    if (this.closed) return this.checkDrained()
    this.refused = later
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
    const next = this.next()
    if (next === undefined) return
    next.fail(error)
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
    for (const [waiter, since] of this.line) {
      const left = since + this.limits.acquireTimeoutMs - Date.now()
      if (left > 0) {
        // A timer further away than 2^31 ms fires at once.
        this.lineTimer = setTimeout(() => this.watchLine(), Math.min(left, 2 ** 31 - 1))
        return
      }
      this.next()
      waiter.fail(this.timeoutError(this.limits.acquireTimeoutMs))
    }
  }

  private sweep(): void {
    const now = Date.now()
    const { connMaxIdleTimeMs, maxIdleConns } = this.limits
    // Those used longest ago stand first.
    const surplus = this.idle.length - maxIdleConns
    for (const [i, connection] of [...this.idle].entries()) {
      const { expiresAt, idleSince } = this.entries.get(connection) as Entry
      const mayBeIdleMs = i < surplus ? Math.min(surplusMs, connMaxIdleTimeMs) : connMaxIdleTimeMs
      if (now - idleSince >= mayBeIdleMs || now >= expiresAt) this.discardIdle(connection)
    }
    this.meter?.report(this.state)
  }

  private timeoutError(waitedMs: number): PoolTimeout {
    const { open, waiting } = this.state
    return new PoolTimeout({ waitedMs, open, waiting })
  }

  private closedError(): StoreUnavailable {
    return new StoreUnavailable({ operation: `pool ${this.name}`, retryable: false, cause: new Error("it is closed") })
  }
}
