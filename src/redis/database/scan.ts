/**
 * Iterates over the keys with a prefix, on one server or on all masters of a cluster.
 */
import * as Effect from "effect/Effect"
import type { Redis } from "ioredis"
import type { ReadFailure } from "../../Errors.js"
import type { Pages } from "../../internal/pages.js"
import type { Request } from "./ClientPool.js"
import { command } from "./commands.js"
import { type Driver, isCluster } from "./driver.js"

/** Keys that the server examines in one step, which takes about a millisecond. */
const batch = "1000"

type Run = <A>(request: Request<A>) => Effect.Effect<A, ReadFailure>

/** The keys page by page; each page knows how to get the next one. */
export const pages = (run: Run, prefix: string, operation: string): Pages<Buffer, ReadFailure> => {
  const pattern = `${prefix.replace(/[*?[\]\\]/g, "\\$&")}*`
  const walk = (nodes: ReadonlyArray<string | undefined>, cursor: string): Pages<Buffer, ReadFailure> => {
    const [node, ...others] = nodes
    const send = command("scan", [cursor, "MATCH", pattern, "COUNT", batch], null)
    return run({
      operation,
      size: 0,
      send: (driver) => (node === undefined ? send(driver) : onNode(driver, node, send)),
      onReply: (reply) => {
        const [next, keys] = reply as [Buffer, Array<Buffer>]
        const more = String(next)
        if (more !== "0") return { items: keys, next: walk(nodes, more) }
        return { items: keys, next: others.length === 0 ? undefined : walk(others, "0") }
      }
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
  return Effect.flatMap(masters, (nodes) => walk(nodes, "0"))
}

export const scan = (
  run: Run,
  prefix: string,
  operation: string,
  use: (keys: ReadonlyArray<Buffer>) => Effect.Effect<void, ReadFailure>
): Effect.Effect<void, ReadFailure> => {
  const walk = (page: Pages<Buffer, ReadFailure>): Effect.Effect<void, ReadFailure> =>
    Effect.flatMap(page, ({ items, next }) =>
      Effect.zipRight(
        items.length === 0 ? Effect.void : use(items),
        next === undefined ? Effect.void : Effect.suspend(() => walk(next))
      )
    )
  return walk(pages(run, prefix, operation))
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
