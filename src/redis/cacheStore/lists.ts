/**
 * Walks through the entries in Redis by SCAN, and tells which are fresh.
 */
import * as Effect from "effect/Effect"
import type { Encoded, EncodedAddress, EncodedListed } from "../../cacheStore/CacheStoreEncoded.js"
import type { ReadFailure } from "../../Errors.js"
import type { Pages } from "../../internal/pages.js"
import type { RedisDatabaseShape } from "../RedisDatabase.js"
import type { KeyNames } from "./keyNames.js"
import type { Requests } from "./requests.js"
import type { Tags } from "./tags.js"

export const make = (
  database: RedisDatabaseShape,
  { look }: Requests,
  { judge }: Tags,
  keyNames: KeyNames
): Pick<Encoded, "addresses" | "list" | "count" | "info"> => {
  /** Fresh entries under keys that begin so, each once. */
  const pages = (
    operation: string,
    begins: string,
    tenantOf: (key: string) => string,
    keyFrom: number
  ): Pages<EncodedListed, ReadFailure> => {
    const seen = new Set<string>()
    const walk = (page: Pages<Buffer, ReadFailure>): Pages<EncodedListed, ReadFailure> =>
      Effect.flatMap(page, ({ items, next }) => {
        const keys = [...new Set(items.map(String))].filter((key) => !seen.has(key))
        for (const key of keys) seen.add(key)
        const tenants = keys.map(tenantOf)
        return Effect.map(
          Effect.flatMap(look(operation, keys, true), (found) => judge(operation, tenants, found)),
          (judged) => ({
            items: judged.flatMap((stored, i) =>
              stored !== null && stored.freshMs > 0
                ? [{ key: (keys[i] as string).slice(keyFrom), freshMs: stored.freshMs }]
                : []
            ),
            next: next === undefined ? undefined : walk(next)
          })
        )
      })
    return Effect.suspend(() => {
      seen.clear()
      return walk(database.pages(begins, operation))
    })
  }

  const drain = (page: Pages<unknown, ReadFailure>, count = 0): Effect.Effect<number, ReadFailure> =>
    Effect.flatMap(page, ({ items, next }) =>
      next === undefined ? Effect.succeed(count + items.length) : drain(next, count + items.length)
    )

  const list = (operation: string, tenantId: string, prefix: string) => {
    const begins = keyNames.entriesOf(tenantId)
    return pages(operation, begins + prefix, () => tenantId, begins.length)
  }

  const addresses = (page: Pages<Buffer, ReadFailure>): Pages<EncodedAddress, ReadFailure> =>
    Effect.flatMap(page, ({ items, next }) => {
      const keys = items.map(String)
      return Effect.map(look("addresses", keys), (found) => ({
        items: found.flatMap((stored, i) => {
          const key = keys[i] as string
          const tenantId = keyNames.tenantIn(key)
          const begins = keyNames.entriesOf(tenantId)
          return stored === null ? [] : [{ tenantId, key: key.slice(begins.length), keyId: stored.keyId }]
        }),
        next: next === undefined ? undefined : addresses(next)
      }))
    })

  return {
    addresses: Effect.suspend(() => addresses(database.pages(keyNames.entries, "addresses"))),

    list: (tenantId, prefix) => list("list", tenantId, prefix),

    count: (tenantId, prefix) => drain(list("count", tenantId, prefix)),

    info: Effect.map(drain(pages("info", keyNames.entries, (key) => keyNames.tenantIn(key), 0)), (entries) => ({
      backend: "Redis",
      connection: database.connection,
      entries
    }))
  }
}
