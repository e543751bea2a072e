/**
 * Whether a PostgreSQL database responds, asked in a way that does not wait for its pool.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { ReadFailure } from "../../Errors.js"
import * as Health from "../../Health.js"
import type { PgConnection, PgPool } from "./connection.js"
import { classify, openFailure, sqlStateOf } from "./failures.js"
import { type ConnectionSettings, insideOf, makeClient } from "./settings.js"

const operation = "health"

const text = "select 1"

/** So much of the time an idle connection has to respond, before another is opened. */
const idleMaxMs = Health.timeoutMs / 2

/**
 * 1. If the pool has an idle connection, that one is asked: the server may accept no other.
 * 2. If it has none, or that one does not respond, a connection is opened for it, and closed again.
 */
export const health = (pool: PgPool, settings: ConnectionSettings): Effect.Effect<Health.Health> =>
  Health.make(
    Effect.suspend(() => {
      const { idle, open } = pool.state
      const status = idle === 0 && open >= pool.limits.maxOpenConns ? "busy" : "up"
      const connection = pool.tryTake()
      const other = askOther(settings, status)
      return connection === undefined
        ? other
        : Effect.matchEffect(askIdle(pool, connection), {
            onSuccess: () => Effect.succeed(status),
            onFailure: () => other
          })
    })
  )

const askIdle = (pool: PgPool, connection: PgConnection): Effect.Effect<void, ReadFailure> =>
  Effect.async((resume) => {
    const timer = setTimeout(() => connection.close(), idleMaxMs)
    connection.start({ text }, true, (error) => {
      clearTimeout(timer)
      pool.release(connection)
      resume(error === undefined ? Effect.void : Effect.fail(classify(error, "read", operation)))
    })
    // When it is interrupted, it goes on by itself, and the connection lives.
    return Effect.void
  })

const askOther = (settings: ConnectionSettings, status: "up" | "busy"): Effect.Effect<"up" | "busy", ReadFailure> =>
  Effect.async((resume) => {
    const client = makeClient({ ...Redacted.value(settings.client), connectionTimeoutMillis: Health.timeoutMs })
    const { connection } = insideOf(client)
    const done = (result: Effect.Effect<"up" | "busy", ReadFailure>, isPolite = false) => {
      clearTimeout(patience)
      if (isPolite) client.end(() => undefined)
      else connection.stream.destroy()
      resume(result)
    }
    // A pooler has let us in, and says itself when it cannot reach the server: its sessions are in use.
    const patience = setTimeout(() => {
      if (connected && settings.pooled) done(Effect.succeed("busy"))
    }, idleMaxMs)
    let connected = false
    client.on("error", () => {})
    client.connect((error: Error | null) => {
      if (error) {
        const opening = openFailure(error, true)
        // It is full: of others' connections if not of ours. One that starts up is not there yet.
        const isFull = opening.later && sqlStateOf(opening.error) !== startingUp
        return done(isFull ? Effect.succeed("busy") : Effect.fail(opening.error))
      }
      connected = true
      client.query(text, (error: Error | null) =>
        error ? done(Effect.fail(classify(error, "read", operation))) : done(Effect.succeed(status), true)
      )
    })
    return Effect.sync(() => {
      clearTimeout(patience)
      connection.stream.destroy()
    })
  })

const startingUp = "57P03"
