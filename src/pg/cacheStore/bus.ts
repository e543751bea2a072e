/**
 * The bus of two levels by NOTIFY. A message is part of the transaction that sends it, and arrives when that commits.
 * The listening connection is asked every second whether it is still there. Where LISTEN cannot be used, nobody hears
 * anything.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type Pg from "pg"
import type { CacheBusShape, Listener } from "../../CacheBus.js"
import type { StoreAccess } from "../database/access.js"
import type { Names } from "../database/names.js"
import { makeListener } from "../database/settings.js"

const pingEveryMs = 500
const silentAfterMs = 1_500
const reconnectMs = 250

export const make = (database: StoreAccess, names: Names): CacheBusShape => {
  const channel = `${names.channel}_cache`
  return {
    publish: (text) =>
      database.run({
        name: `${names.channel}/cache_publish`,
        text: "select pg_notify($1, $2)",
        values: [channel, text],
        rowMode: "array",
        operation: "publish",
        kind: "write",
        onResult: () => undefined
      }),
    listen: (listener) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => {
            const { listener: at } = database.settings
            return at === undefined ? () => {} : listen(Redacted.value(at), channel, listener)
          }),
          (close) => Effect.sync(close)
        )
      )
  }
}

const listen = (at: Pg.ClientConfig, channel: string, listener: Listener): (() => void) => {
  let closed = false
  let current: Pg.Client | undefined
  let retry: NodeJS.Timeout | undefined
  const open = (): void => {
    const client = makeListener(at)
    current = client
    let over = false
    let heard = false
    let ping: NodeJS.Timeout | undefined
    let silent: NodeJS.Timeout | undefined
    const lost = (): void => {
      if (over) return
      over = true
      clearInterval(ping)
      clearTimeout(silent)
      client.end(() => undefined)
      if (heard) listener.lost()
      if (!closed) retry = setTimeout(open, reconnectMs * (0.5 + Math.random()))
    }
    const expectWord = (): void => {
      clearTimeout(silent)
      silent = setTimeout(lost, heard ? silentAfterMs : 2 * silentAfterMs)
    }
    client.on("error", lost)
    client.on("end", lost)
    client.on("notification", ({ payload }) => listener.message(payload ?? ""))
    expectWord()
    const begin = async (): Promise<void> => {
      await client.connect()
      await client.query(`listen ${client.escapeIdentifier(channel)}`)
      if (over) return
      heard = true
      listener.connected()
      expectWord()
      ping = setInterval(() => {
        client.query("select 1").then(() => {
          if (!over) expectWord()
        }, lost)
      }, pingEveryMs)
    }
    begin().catch(lost)
  }
  open()
  return () => {
    closed = true
    clearTimeout(retry)
    current?.end(() => undefined)
  }
}
