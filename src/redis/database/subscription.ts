/**
 * Hearing a channel: one connection that subscribes, is asked every second whether it is still there, and is made again
 * when it is lost or silent.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import { type Driver, isCluster } from "./driver.js"

/**
 * What a subscriber to a channel is told.
 *
 * @since 0.1.0
 * @category models
 */
export interface Listener {
  readonly message: (text: string) => void
  /** From now on every message is heard, until `lost`. */
  readonly connected: () => void
  readonly lost: () => void
}

const pingEveryMs = 500
const silentAfterMs = 1_500
const reconnectMs = 250

/**
 * Nodes of a Cluster tell each other what is published, so one of them is enough. The driver's own way hides what is
 * lost.
 */
const single = async (driver: Driver): Promise<Redis> => {
  if (!isCluster(driver)) return driver
  try {
    await driver.ping()
    const node = driver.nodes("master")[0]
    if (node === undefined) throw new Error("the cluster has no master")
    return node.duplicate({ lazyConnect: false, retryStrategy: () => null, maxRetriesPerRequest: null })
  } finally {
    driver.disconnect()
  }
}

export const subscribe = (
  connect: () => Driver,
  channel: string,
  listener: Listener
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => {
        let closed = false
        let current: Driver | undefined
        let retry: NodeJS.Timeout | undefined
        const open = (): void => {
          let over = false
          let heard = false
          let ping: NodeJS.Timeout | undefined
          let silent: NodeJS.Timeout | undefined
          const lost = (): void => {
            if (over) return
            over = true
            clearInterval(ping)
            clearTimeout(silent)
            current?.disconnect()
            current = undefined
            if (heard) listener.lost()
            if (!closed) retry = setTimeout(open, reconnectMs * (0.5 + Math.random()))
          }
          // Also while connecting: a server that accepts and says nothing would be waited for without end.
          const expectWord = (): void => {
            clearTimeout(silent)
            silent = setTimeout(lost, heard ? silentAfterMs : 2 * silentAfterMs)
          }
          const begin = async (): Promise<void> => {
            const driver = connect()
            driver.on("error", () => {})
            current = driver
            expectWord()
            const client = await single(driver)
            client.on("error", () => {})
            if (over || closed) return client.disconnect()
            current = client
            client.on("end", lost)
            client.on("message", (_, text: string) => listener.message(text))
            await client.subscribe(channel)
            if (over) return
            heard = true
            listener.connected()
            expectWord()
            ping = setInterval(() => {
              client.ping().then(() => {
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
          current?.disconnect()
        }
      }),
      (close) => Effect.sync(close)
    )
  )
