/**
 * Wake-up hints across processes by NOTIFY, without a body and never inside the transaction of an append: there it
 * would take a lock that all committing transactions of the cluster share. A hint may get lost, so readers poll too.
 */
import * as Effect from "effect/Effect"
import * as RcRef from "effect/RcRef"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type Pg from "pg"
import { Hints } from "../../internal/Hints.js"
import { makeListener } from "../database/settings.js"

/** Between a lost connection and the next attempt. */
const reconnectMs = 500

/** `notify` is not awaited, and may fail. Without a place to listen at, only this process hears of its appends. */
export const make = (
  at: Redacted.Redacted<Pg.ClientConfig> | undefined,
  channel: string,
  notify: () => void
): Effect.Effect<{ readonly hints: Hints; readonly register: Hints["register"] }, never, Scope.Scope> =>
  Effect.gen(function* () {
    const hints = yield* Effect.acquireRelease(
      Effect.sync(() => new Hints(notify)),
      (hints) => Effect.sync(() => hints.close())
    )
    if (at === undefined) return { hints, register: hints.register }
    // One connection listens for all subscribers of the process, from the first to the last.
    const listening = yield* RcRef.make({ acquire: listen(Redacted.value(at), channel, () => hints.signal()) })
    return { hints, register: Effect.zipRight(RcRef.get(listening), hints.register) }
  })

/** A connection that listens until the scope closes, and is opened again whenever it is lost. */
const listen = (client: Pg.ClientConfig, channel: string, heard: () => void): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => {
        let listener: Pg.Client | undefined
        let timer: NodeJS.Timeout | undefined
        let closed = false
        const connect = () => {
          const current = makeListener(client)
          listener = current
          let gone = false
          const lost = () => {
            if (gone) return
            gone = true
            current.end(() => undefined)
            if (!closed) timer = setTimeout(connect, reconnectMs * (0.5 + Math.random()))
          }
          current.on("error", lost)
          current.on("end", lost)
          current.on("notification", heard)
          current.connect((error: Error | null) => {
            if (error) return lost()
            current.query(`listen ${current.escapeIdentifier(channel)}`, (error) => {
              if (error) return lost()
              // Readers must look for what was appended while nobody listened.
              heard()
            })
          })
        }
        connect()
        return () => {
          closed = true
          clearTimeout(timer)
          listener?.end(() => undefined)
        }
      }),
      (close) => Effect.sync(close)
    )
  )
