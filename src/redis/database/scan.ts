/**
 * Iterates over the keys with a prefix, on one server or on all masters of a cluster.
 */
import * as Effect from "effect/Effect"
import type { Redis } from "ioredis"
import type { StoreFailure } from "../../Errors.js"
import type { Request } from "./ClientPool.js"
import { command, type Driver, isCluster } from "./commands.js"

/** Keys that the server examines in one step, which takes about a millisecond. */
const batch = "1000"

type Run = <A>(request: Request<A>) => Effect.Effect<A, StoreFailure>

export const scan = (
  run: Run,
  prefix: string,
  operation: string,
  use: (keys: ReadonlyArray<Buffer>) => Effect.Effect<void, StoreFailure>
): Effect.Effect<void, StoreFailure> => {
  const pattern = `${prefix.replace(/[*?[\]\\]/g, "\\$&")}*`
  const walk = (node: string | undefined, cursor: string): Effect.Effect<void, StoreFailure> => {
    const send = command("scan", [cursor, "MATCH", pattern, "COUNT", batch], null)
    const page = run({
      operation,
      size: 0,
      send: (driver) => (node === undefined ? send(driver) : onNode(driver, node, send)),
      onReply: (reply) => {
        const [next, keys] = reply as [Buffer, ReadonlyArray<Buffer>]
        return { next: String(next), keys }
      }
    })
    return Effect.flatMap(page, ({ keys, next }) => {
      const used = keys.length === 0 ? Effect.void : use(keys)
      return next === "0"
        ? used
        : Effect.zipRight(
            used,
            Effect.suspend(() => walk(node, next))
          )
    })
  }
  const masters = run({
    operation,
    size: 0,
    // The driver knows a cluster's nodes only after the first reply.
    send: async (driver) => {
      await command("ping", [])(driver)
      return isCluster(driver) ? mastersOf(driver).map(nameOf) : [undefined]
    },
    onReply: (reply) => reply as ReadonlyArray<string | undefined>
  })
  return Effect.flatMap(masters, (nodes) => Effect.forEach(nodes, (node) => walk(node, "0"), { discard: true }))
}

const mastersOf = (driver: Driver): ReadonlyArray<Redis> => (isCluster(driver) ? driver.nodes("master") : [])

const nameOf = ({ options }: Redis): string => `${options.host}:${options.port}`

// A cursor belongs to one node, and another connection of the pool may not know that node yet.
const onNode = async (driver: Driver, name: string, send: (driver: Driver) => Promise<unknown>): Promise<unknown> => {
  if (driver.status !== "ready") await command("ping", [])(driver)
  const node = mastersOf(driver).find((node) => nameOf(node) === name)
  if (node === undefined) throw new Error(`${name} is no master of the cluster any more`)
  return send(node)
}
