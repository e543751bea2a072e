/**
 * A pool of connections to Redis that many commands share. The driver's connection (to a cluster: one to each of its
 * nodes) replies in order and takes any number of commands at once, and a single one is fastest for small values. So a
 * command takes a connection that is not busy, and another is opened only when all are busy.
 *
 * Reconnects, retries and timeouts are handled here, not by the driver, which would keep a dead connection for ever and
 * counts its retries per connection. A connection that ends, or goes silent, leaves the pool.
 */
import * as Effect from "effect/Effect"
import { StoreError, StoreUnavailable } from "../../Errors.js"
import type { PoolMeter } from "../../internal/telemetry.js"
import type { RedisLimits } from "../../Pool.js"
import { command, type Send } from "./commands.js"
import type { OnError } from "./connectors.js"
import { Deadlines, type Waiting } from "./deadlines.js"
import { type Driver, isCluster } from "./driver.js"
import { classify, replyCode, rootOf } from "./failures.js"
import { addOutbox } from "./outbox.js"

/** What a command may fail with. */
export type Failure = StoreError | StoreUnavailable

/** For a reply that does not say enough: what to do instead of returning it. */
export class Instead<A> {
  constructor(readonly effect: Effect.Effect<A, Failure>) {}
}

export interface Request<A> {
  readonly operation: string
  /** Bytes to send, roughly. */
  readonly size: number
  readonly send: Send
  readonly onReply: (reply: unknown) => A | Instead<A>
}

/** With so many bytes under way a connection is busy, and the next command looks for another. */
const busyBytes = 256 * 1024

/** Bytes that occupy a connection for as long as a command does by itself. A single connection serves many of these. */
const commandBytes = 256

/** How often the pool maintains itself, and how long surplus connections stay open unused. */
const tendEveryMs = 1_000

/** Before the first retry. Each further one waits four times as long, so three outlast a server's restart. */
const backoffMs = 50

/** Closing waits no longer than this for connections; the driver destroys their sockets before. */
const closingMaxMs = 3_000

class Client {
  load = 0
  inFlight = 0
  ready = false
  idleSince = performance.now()
  /** How many replies there were. */
  heard = 0
  error: unknown = undefined
  readonly driver: Driver
  constructor(connect: (onError: OnError) => Driver) {
    this.driver = connect((error) => this.failed(error))
  }

  /** A command that took this load has its reply, or has failed. */
  back(load: number): void {
    this.load -= load
    this.inFlight--
    if (this.inFlight === 0) this.idleSince = performance.now()
  }

  /** What says only that there is no connection does not hide why. */
  failed(error: unknown): void {
    this.error = rootOf(error, this.error)
  }
}

export class ClientPool {
  private readonly clients = new Set<Client>()
  private readonly ending = new Set<Client>()
  private readonly tending: NodeJS.Timeout
  private readonly deadlines: Deadlines
  private closed: (() => void) | undefined

  constructor(
    private readonly meter: PoolMeter,
    readonly limits: RedisLimits,
    private readonly connect: (onError: OnError) => Driver
  ) {
    this.deadlines = new Deadlines(limits.writeTimeoutMs)
    this.tending = setInterval(() => this.tend(), tendEveryMs).unref()
    this.tend()
  }

  get state(): { readonly open: number; readonly idle: number } {
    return { open: this.clients.size, idle: this.unused().length }
  }

  /**
   * Sends a command and waits for its reply, no longer than `writeTimeout` in all.
   *
   * 1. If its connection fails, or the server cannot execute it now, it is retried up to `maxRetries` times.
   * 2. An interrupt stops waiting at once. The command may still happen, and its connection must still reply within
   *    `writeTimeout`.
   */
  run<A>(request: Request<A>): Effect.Effect<A, Failure> {
    return this.attempt(request, 0, undefined)
  }

  // Without a finalizer for interruption, which would cost half as much as the command: an effect that is interrupted
  // resumes nothing, so what it would do after this attempt is not done.
  private attempt<A>(request: Request<A>, retries: number, untilMs: number | undefined): Effect.Effect<A, Failure> {
    const { onReply, operation, send, size } = request
    return Effect.async<A, Failure>((resume) => {
      if (this.closed !== undefined) {
        const cause = new Error("the connections were closed")
        return resume(Effect.fail(new StoreUnavailable({ operation, retryable: false, cause })))
      }
      const client = this.choose()
      const load = commandBytes + size
      const { heard } = client
      const waiting: Waiting = {
        untilMs,
        expire: () => {
          // The nodes of a cluster are observed together, so a single silent node cannot be told apart.
          if (isCluster(client.driver) || client.heard === heard) this.retire(client)
          resume(this.expired(operation))
        }
      }
      client.load += load
      client.inFlight++
      this.deadlines.add(waiting)
      started(send, client.driver).then(
        (reply) => {
          client.back(load)
          client.heard++
          if (!this.deadlines.delete(waiting)) return
          try {
            const found = onReply(reply)
            resume(found instanceof Instead ? found.effect : Effect.succeed(found))
          } catch (cause) {
            resume(Effect.fail(new StoreError({ operation, cause })))
          }
        },
        (thrown) => {
          client.back(load)
          const error = rootOf(thrown, client.error)
          const code = replyCode(error)
          if (code !== undefined) client.heard++
          // It is no longer the master, and the driver would not look for the new one.
          if (code === "READONLY") this.retire(client)
          if (!this.deadlines.delete(waiting)) return
          const failure = classify(error, operation)
          resume(
            !failure.retryable || retries === this.limits.maxRetries || hasRetried(thrown)
              ? Effect.fail(failure)
              : this.again(request, retries, waiting.untilMs ?? performance.now() + this.limits.writeTimeoutMs)
          )
        }
      )
    })
  }

  /** The next attempt after a pause. */
  private again<A>(request: Request<A>, retries: number, untilMs: number): Effect.Effect<A, Failure> {
    return Effect.async((resume) => {
      const leftMs = untilMs - performance.now()
      const pauseMs = backoffMs * 4 ** retries
      const timer = setTimeout(
        () => resume(pauseMs < leftMs ? this.attempt(request, retries + 1, untilMs) : this.expired(request.operation)),
        Math.min(pauseMs, leftMs)
      )
      return Effect.sync(() => clearTimeout(timer))
    })
  }

  private expired(operation: string): Effect.Effect<never, StoreUnavailable> {
    const cause = new Error(`no answer within ${this.limits.writeTimeoutMs} ms`)
    return Effect.fail(new StoreUnavailable({ operation, retryable: true, cause }))
  }

  /** Asks the server for a sign of life: on a connection of its own if all of the pool are busy. */
  readonly ask: Effect.Effect<"up" | "busy", StoreError | StoreUnavailable> = Effect.suspend(() => {
    const busy = this.clients.size >= this.limits.poolSize && [...this.clients].every(({ load }) => load >= busyBytes)
    return busy
      ? Effect.as(this.askOther, "busy")
      : Effect.as(this.run({ operation: "health", size: 0, send: ping, onReply: () => undefined }), "up")
  })

  private readonly askOther: Effect.Effect<void, StoreError | StoreUnavailable> = Effect.async((resume) => {
    let reason: unknown
    const driver = this.connect((error) => {
      reason = error
    })
    driver.on("error", (error: unknown) => {
      reason = error
    })
    ping(driver)
      .then(
        () => resume(Effect.void),
        (error) => resume(Effect.fail(classify(rootOf(error, reason), "health")))
      )
      .finally(() => driver.disconnect())
    return Effect.sync(() => driver.disconnect())
  })

  /** Closes all connections. Running commands fail, and so do later ones. */
  readonly shutdown: Effect.Effect<void> = Effect.async<void>((resume) => {
    clearInterval(this.tending)
    const giveUp = setTimeout(() => this.closed?.(), closingMaxMs)
    this.closed = () => {
      clearTimeout(giveUp)
      this.meter.report(this.state)
      resume(Effect.void)
    }
    for (const client of this.clients) this.retire(client)
    if (this.ending.size === 0) this.closed()
  })

  private unused(): Array<Client> {
    return [...this.clients].filter(({ inFlight }) => inFlight === 0)
  }

  private choose(): Client {
    let least: Client | undefined
    let connecting: Client | undefined
    for (const client of this.clients) {
      if (client.load < busyBytes) {
        if (client.ready) return client
        connecting ??= client
      }
      if (client.ready && (least === undefined || client.load < least.load)) least = client
    }
    if (connecting !== undefined) return connecting
    if (this.clients.size < this.limits.poolSize) return this.add()
    return least ?? ([...this.clients].reduce((a, b) => (a.load <= b.load ? a : b)) as Client)
  }

  private add(): Client {
    const client = new Client(this.connect)
    const { driver } = client
    driver.on("ready", () => {
      client.ready = true
    })
    driver.on("error", (error: unknown) => {
      client.failed(lastNodeError(error))
      // The server refused the database, and the driver would go on in another.
      if (replyCode(error) !== undefined) this.retire(client)
    })
    driver.on("node error", (error: unknown) => {
      client.failed(error)
    })
    driver.on("end", () => {
      this.clients.delete(client)
      this.ending.delete(client)
      if (this.ending.size === 0) this.closed?.()
    })
    if (!isCluster(driver)) addOutbox(driver)
    this.clients.add(client)
    return client
  }

  private retire(client: Client): void {
    if (!this.clients.delete(client)) return
    this.ending.add(client)
    client.driver.disconnect()
  }

  private tend(): void {
    const idleBefore = performance.now() - tendEveryMs
    const unused = this.unused()
    const tooMany = unused.length - this.limits.maxIdleConns
    for (const client of unused.filter(({ idleSince }) => idleSince <= idleBefore).slice(0, Math.max(0, tooMany))) {
      this.retire(client)
    }
    while (this.clients.size < this.limits.minIdleConns) this.add()
    this.meter.report(this.state)
  }
}

const ping = command("ping", [])

/** On a cluster the driver has retried the command itself. */
const hasRetried = (error: unknown): boolean =>
  error instanceof Error && error.message.startsWith("Too many Cluster redirections")

/** Why none of a cluster's nodes could be asked. */
const lastNodeError = (error: unknown): unknown =>
  typeof error === "object" && error !== null && "lastNodeError" in error ? (error.lastNodeError ?? error) : error

/** What the driver throws at once fails like what it rejects later. */
const started = (send: Send, driver: Driver): ReturnType<Send> => {
  try {
    return send(driver)
  } catch (thrown) {
    return Promise.reject(thrown)
  }
}
