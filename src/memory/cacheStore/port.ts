/**
 * The CacheStore's port over entries in memory. Every step is synchronous, so atomic; tags need no generations, because
 * their removal finds the entries and the tickets themselves.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type {
  BeginRequest,
  Begun,
  Encoded,
  EncodedEntry,
  EncodedListed,
  Place,
  Settlement,
  Ticket
} from "../../cacheStore/CacheStoreEncoded.js"
import { pagesOf } from "../../internal/pages.js"
import { makeNote } from "../database/notes.js"
import { isFresh, type MemoryCache, type Node } from "./MemoryCache.js"

interface Held {
  readonly tenantId: string
  readonly token: string
  readonly tags: ReadonlyArray<string>
  until: number
}

const at = <A>(step: (nowMs: number) => A): Effect.Effect<A> =>
  Effect.withFiberRuntime((fiber) =>
    Effect.succeed(step(Context.get(fiber.currentDefaultServices, Clock.Clock).unsafeCurrentTimeMillis()))
  )

const idOf = ({ key, tenantId }: Place): string => `${tenantId}\0${key}`

const entryOf = (node: Node, nowMs: number): EncodedEntry => ({
  value: node.value,
  keyId: node.keyId,
  tags: node.tags,
  parsed: node.parsed,
  freshMs: node.expired === undefined ? node.freshUntil - nowMs : 0
})

export const make = (cache: MemoryCache): Encoded => {
  /** Tickets by place: as many as there are loads. */
  const tickets = new Map<string, Held>()

  const ticketAt = (place: Place, nowMs: number): Held | undefined => {
    const held = tickets.get(idOf(place))
    return held !== undefined && held.until > nowMs ? held : undefined
  }

  const look = (tenantId: string, key: string, nowMs: number): EncodedEntry | null => {
    const node = cache.find(tenantId, key, nowMs)
    if (node === undefined) return null
    cache.used(node)
    return entryOf(node, nowMs)
  }

  const atOnce = ({ key, tenantId }: Place, nowMs: number) => look(tenantId, key, nowMs)

  const begin = ({ keys, leaseMs, refreshMs, tags, tenantId, token }: BeginRequest, nowMs: number) =>
    keys.map((key): Begun => {
      const place = { tenantId, key }
      const entry = look(tenantId, key, nowMs)
      if (entry !== null && entry.freshMs > 0 && !(entry.freshMs <= refreshMs)) return { _tag: "Fresh", entry }
      if (ticketAt(place, nowMs) !== undefined) return { _tag: "Busy", entry }
      tickets.set(idOf(place), { tenantId, token, tags, until: nowMs + leaseMs })
      return { _tag: "Granted", ticket: { ...place, token, tags: null }, entry }
    })

  const renew = (ticket: Ticket, leaseMs: number, nowMs: number): boolean => {
    const held = ticketAt(ticket, nowMs)
    if (held?.token !== ticket.token) return false
    held.until = nowMs + leaseMs
    return true
  }

  const settle = ({ holdMs, ticket, write }: Settlement, nowMs: number): boolean => {
    const held = ticketAt(ticket, nowMs)
    if (held?.token !== ticket.token) return false
    if (write !== null) cache.put(write, nowMs)
    if (holdMs === 0) tickets.delete(idOf(ticket))
    else held.until = nowMs + holdMs
    return true
  }

  const cutTag = (tenantId: string, tag: string): void => {
    for (const [id, held] of tickets) if (held.tenantId === tenantId && held.tags.includes(tag)) tickets.delete(id)
  }

  const freshOf = (tenantId: string | null, prefix: string, nowMs: number): ReadonlyArray<Node> =>
    cache.all(tenantId).filter((node) => isFresh(node, nowMs) && node.key.startsWith(prefix))

  return {
    get: Object.assign((place: Place) => at((nowMs) => atOnce(place, nowMs)), { atOnce }),

    getMany: (tenantId, keys) => at((nowMs) => keys.map((key) => look(tenantId, key, nowMs))),

    set: (writes) =>
      at((nowMs) => {
        for (const write of writes) {
          tickets.delete(idOf(write))
          cache.put(write, nowMs)
        }
      }),

    setIfAbsent: (write) =>
      at((nowMs) => {
        const node = cache.find(write.tenantId, write.key, nowMs)
        if (node !== undefined && isFresh(node, nowMs)) return false
        tickets.delete(idOf(write))
        cache.put(write, nowMs)
        return true
      }),

    touch: ({ key, tenantId }, ttlMs) =>
      at((nowMs) => {
        const node = cache.find(tenantId, key, nowMs)
        if (node === undefined || !isFresh(node, nowMs)) return false
        node.freshUntil = nowMs + ttlMs
        node.keepUntil = node.freshUntil + node.graceMs
        cache.used(node)
        return true
      }),

    remove: (tenantId, keys) =>
      at((nowMs) => {
        for (const key of keys) {
          tickets.delete(idOf({ tenantId, key }))
          const node = cache.find(tenantId, key, nowMs)
          if (node !== undefined) cache.delete(node)
        }
      }),

    expire: (tenantId, keys) =>
      at((nowMs) => {
        for (const key of keys) {
          tickets.delete(idOf({ tenantId, key }))
          const node = cache.find(tenantId, key, nowMs)
          if (node !== undefined) cache.expire(node, nowMs)
        }
      }),

    invalidateTags: (tenantId, tags) =>
      Effect.sync(() => {
        for (const tag of tags) {
          cutTag(tenantId, tag)
          for (const node of cache.withTag(tenantId, tag)) cache.delete(node)
        }
      }),

    expireTags: (tenantId, tags) =>
      at((nowMs) => {
        for (const tag of tags) {
          cutTag(tenantId, tag)
          for (const node of cache.withTag(tenantId, tag)) cache.expireTag(node, tag, nowMs)
        }
      }),

    begin: (request) => at((nowMs) => begin(request, nowMs)),

    renew: (held, leaseMs) => at((nowMs) => held.map((ticket) => renew(ticket, leaseMs, nowMs))),

    settle: (settlements) => at((nowMs) => settlements.map((settlement) => settle(settlement, nowMs))),

    list: (tenantId, prefix) =>
      Effect.flatMap(
        at((nowMs) =>
          freshOf(tenantId, prefix, nowMs).map(
            ({ freshUntil, key }): EncodedListed => ({ key, freshMs: freshUntil - nowMs })
          )
        ),
        pagesOf
      ),

    replace: ({ key, tenantId }, was, payload) =>
      at((nowMs) => {
        const node = cache.find(tenantId, key, nowMs)
        if (node === undefined || node.value !== was.value || node.keyId !== was.keyId) return false
        cache.replace(node, payload)
        return true
      }),

    addresses: Effect.flatMap(
      Effect.sync(() => cache.all(null).map(({ key, keyId, tenantId }) => ({ tenantId, key, keyId }))),
      pagesOf
    ),

    count: (tenantId, prefix) => at((nowMs) => freshOf(tenantId, prefix, nowMs).length),

    reset: (tenantId) =>
      Effect.sync(() => {
        for (const node of cache.all(tenantId)) cache.delete(node)
        for (const [id, held] of tickets) if (tenantId === null || held.tenantId === tenantId) tickets.delete(id)
      }),

    info: at((nowMs) => ({
      backend: "InMemory",
      connection: "memory",
      entries: freshOf(null, "", nowMs).length
    })),

    note: makeNote(),

    inTransaction: Effect.succeed(false)
  }
}
