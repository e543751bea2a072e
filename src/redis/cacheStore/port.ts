/**
 * The CacheStore's port on Redis. Entries and tags are keys of their own, which on a Cluster are on different nodes; so
 * an entry carries the generations of its tags, and whoever reads it compares them with the tags: a removal by tag is
 * one UNLINK of the tag. Nothing lists what belongs to what, so nothing outlives its entries: a tag's key lives as long
 * as the longest of its entries.
 */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import type {
  Begun,
  Encoded,
  EncodedAddress,
  EncodedEntry,
  EncodedListed,
  EncodedWrite,
  Place,
  Ticket
} from "../../cacheStore/CacheStoreEncoded.js"
import type { ReadFailure, StoreFailure } from "../../Errors.js"
import type { Pages } from "../../internal/pages.js"
import { batch, command, evaluate, isCluster, type Send } from "../database/commands.js"
import type { RedisDatabaseShape } from "../RedisDatabase.js"
import {
  encodePayload,
  encodeSimple,
  encodeTags,
  isComplex,
  marksOf,
  none,
  parse,
  type Stored,
  type TagMark,
  timeOf
} from "./format.js"
import * as scripts from "./scripts.js"

/** What a script answers that has looked at a key. */
type Answer = readonly [what: string, nowMs: string, pttlMs: number, text: string | null]

interface Tag {
  readonly generation: string
  readonly expiries: number
  readonly expiredAtMs: number
}

/** Before what is in a key's name only these two would be ambiguous; the key itself comes last and may be anything. */
const part = (text: string): string => (/[%:]/.test(text) ? text.replace(/[%:]/g, encodeURIComponent) : text)

const parseTag = (text: string | null): Tag | null => {
  const [generation, expiries, expiredAt] = text === null ? [] : text.split(":")
  return generation === undefined || expiredAt === undefined
    ? null
    : { generation, expiries: Number(expiries), expiredAtMs: Number(expiredAt) }
}

const storedOf = ([, nowMs, pttlMs, text]: Answer, headed = false): Stored | null =>
  parse(text, Number(nowMs), pttlMs, headed)

export const make = (database: RedisDatabaseShape, prefix: string): Encoded => {
  // A prefix has no brace, so the keys of a store are those whose text before the first one is its prefix.
  const entriesOf = (tenantId: string) => `${prefix}{k:${part(tenantId)}:`
  const keyOf = ({ key, tenantId }: Place) => `${entriesOf(tenantId)}${key}`
  const tagsOf = (tenantId: string) => `${prefix}{t:${part(tenantId)}:`
  // Like no other: no entry, and no SnapshotStore with the same prefix.
  const notes = `${prefix}}c`
  const tagKeyOf = (tenantId: string, tag: string) => `${tagsOf(tenantId)}${tag}`

  const run = <A>(operation: string, size: number, send: Send, onReply: (reply: unknown) => A) =>
    database.run({ operation, size, send, onReply })

  /** Several commands by one write to the socket of each node. */
  const runAll = <A>(
    operation: string,
    size: number,
    sends: ReadonlyArray<Send>,
    onReply: (reply: unknown, index: number) => A
  ): Effect.Effect<ReadonlyArray<A>, ReadFailure> =>
    sends.length === 0
      ? Effect.succeed([])
      : run(operation, size, batch(sends), (replies) => (replies as ReadonlyArray<unknown>).map(onReply))

  /** A cluster refuses keys of several slots in one command. */
  const perKey = <A>(
    operation: string,
    keys: ReadonlyArray<string>,
    many: (keys: ReadonlyArray<string>) => Send,
    one: (key: string) => Send,
    onReplies: (replies: unknown) => A
  ): Effect.Effect<A, ReadFailure> => {
    const [only] = keys
    const single = keys.length === 1 && only !== undefined ? one(only) : undefined
    return run(
      operation,
      0,
      (driver) =>
        single !== undefined && !isCluster(driver)
          ? single(driver).then((reply) => [reply])
          : isCluster(driver)
            ? batch(keys.map(one))(driver)
            : many(keys)(driver),
      onReplies
    )
  }

  const gets = (
    operation: string,
    keys: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyArray<string | null>, ReadFailure> =>
    perKey(
      operation,
      keys,
      (keys) => command("mget", keys),
      (key) => command("get", [key]),
      (replies) => replies as ReadonlyArray<string | null>
    )

  const unlink = (operation: string, keys: ReadonlyArray<string | Buffer>) =>
    run(
      operation,
      0,
      (driver) =>
        isCluster(driver)
          ? batch(keys.map((key) => command("unlink", [key])))(driver)
          : command("unlink", keys)(driver),
      () => undefined
    )

  /** Looks at keys with the server's time. */
  const look = (operation: string, keys: ReadonlyArray<string>, head = false) =>
    runAll(
      operation,
      0,
      keys.map((key) => evaluate(scripts.look, [key], [head ? "head" : ""])),
      (reply) => storedOf(reply as Answer, head)
    )

  /** What the entries are by their tags as well: null for those that a tag has removed. */
  const judge = (
    operation: string,
    tenants: ReadonlyArray<string>,
    found: ReadonlyArray<Stored | null>
  ): Effect.Effect<ReadonlyArray<Stored | null>, ReadFailure> => {
    const keys = new Map<string, Tag | null>()
    for (const [i, stored] of found.entries()) {
      for (const { name } of stored?.tags ?? []) keys.set(tagKeyOf(tenants[i] as string, name), null)
    }
    if (keys.size === 0) return Effect.succeed(found)
    const names = [...keys.keys()]
    return Effect.map(gets(operation, names), (texts) => {
      for (const [i, name] of names.entries()) keys.set(name, parseTag(texts[i] ?? null))
      return found.map((stored, i) => {
        if (stored === null || stored.tags.length === 0) return stored
        let { freshMs, keptMs } = stored
        for (const { expiries, generation, name } of stored.tags) {
          const tag = keys.get(tagKeyOf(tenants[i] as string, name)) ?? null
          if (tag?.generation !== generation) return null
          if (tag.expiries !== expiries) {
            freshMs = Math.min(freshMs, 0)
            keptMs = Math.min(keptMs, tag.expiredAtMs + stored.graceMs - stored.nowMs)
          }
        }
        return keptMs > 0 ? { ...stored, freshMs, keptMs } : null
      })
    })
  }

  const judgeOne = (operation: string, tenantId: string, stored: Stored | null) =>
    stored === null || stored.tags.length === 0
      ? Effect.succeed(stored)
      : Effect.map(judge(operation, [tenantId], [stored]), ([judged]) => judged ?? null)

  const entryOf = (stored: Stored | null): EncodedEntry | null =>
    stored === null
      ? null
      : {
          value: stored.value,
          keyId: stored.keyId,
          freshMs: stored.freshMs,
          tags: stored.tags.map(({ name }) => name)
        }

  /** Generations as they are now, made where there are none, to live for so long at least. */
  const takeTags = (
    operation: string,
    tenantId: string,
    tags: ReadonlyArray<string>,
    keepMs: number
  ): Effect.Effect<ReadonlyArray<TagMark>, ReadFailure> =>
    runAll(
      operation,
      0,
      tags.map((tag) => evaluate(scripts.tag, [tagKeyOf(tenantId, tag)], [randomUUID(), timeOf(keepMs)])),
      (reply, i) => {
        const { expiries, generation } = parseTag(reply as string) as Tag
        return { name: tags[i] as string, generation, expiries }
      }
    )

  const sameTags = (taken: ReadonlyArray<TagMark>, now: ReadonlyArray<TagMark>): boolean =>
    taken.every(({ expiries, generation }, i) => now[i]?.generation === generation && now[i]?.expiries === expiries)

  const tagsIn = (ticket: Ticket): ReadonlyArray<TagMark> => ticket.tags as ReadonlyArray<TagMark>

  /** Stamp, time to live, grace, tags, payload: what scripts put. */
  const putArgs = (write: EncodedWrite, marks: ReadonlyArray<TagMark>): ReadonlyArray<string> => [
    randomUUID(),
    timeOf(write.ttlMs),
    timeOf(write.graceMs),
    encodeTags(marks),
    encodePayload(write)
  ]

  const sizeOf = (writes: ReadonlyArray<EncodedWrite>): number =>
    writes.reduce((size, { value }) => size + value.length, 0)

  const send = (write: EncodedWrite, marks: ReadonlyArray<TagMark>): Send => {
    const key = keyOf(write)
    if (write.graceMs > 0 || marks.length > 0) return evaluate(scripts.put, [key], putArgs(write, marks))
    const text = encodeSimple(write)
    return command(
      "set",
      write.ttlMs === Number.POSITIVE_INFINITY ? [key, text] : [key, text, "PX", timeOf(write.ttlMs)]
    )
  }

  const simpleEntry = (text: string | null): EncodedEntry | null => entryOf(parse(text, 0, 1))

  const getWhole = (place: Place): Effect.Effect<EncodedEntry | null, ReadFailure> =>
    Effect.flatMap(look("get", [keyOf(place)]), ([stored]) =>
      Effect.map(judgeOne("get", place.tenantId, stored ?? null), entryOf)
    )

  const putIfAbsent = (
    write: EncodedWrite,
    args: ReadonlyArray<string>,
    dead: string
  ): Effect.Effect<boolean, StoreFailure> =>
    Effect.flatMap(
      run("setIfAbsent", write.value.length, evaluate(scripts.putIfAbsent, [keyOf(write)], [...args, dead]), (reply) =>
        typeof reply === "number" ? reply === 1 : storedOf(reply as Answer)
      ),
      (outcome) => {
        if (typeof outcome === "boolean") return Effect.succeed(outcome)
        // It looks fresh to the script, and is no entry.
        if (outcome === null) {
          return Effect.zipRight(unlink("setIfAbsent", [keyOf(write)]), putIfAbsent(write, args, none))
        }
        return Effect.flatMap(judgeOne("setIfAbsent", write.tenantId, outcome), (judged) =>
          judged !== null && judged.freshMs > 0 ? Effect.succeed(false) : putIfAbsent(write, args, outcome.stamp)
        )
      }
    )

  const touch = (place: Place, ttlMs: number, checked: string): Effect.Effect<boolean, StoreFailure> =>
    Effect.flatMap(
      run("touch", 0, evaluate(scripts.touch, [keyOf(place)], [timeOf(ttlMs), checked]), (reply) =>
        typeof reply === "number" ? reply === 1 : storedOf(reply as Answer)
      ),
      (outcome) => {
        if (typeof outcome === "boolean") return Effect.succeed(outcome)
        if (outcome === null) return Effect.succeed(false)
        const names = outcome.tags.map(({ name }) => name)
        return Effect.flatMap(judgeOne("touch", place.tenantId, outcome), (judged) =>
          judged === null || !(judged.freshMs > 0)
            ? Effect.succeed(false)
            : Effect.zipRight(
                takeTags("touch", place.tenantId, names, ttlMs + outcome.graceMs),
                touch(place, ttlMs, outcome.stamp)
              )
        )
      }
    )

  const beginAll = (
    places: ReadonlyArray<Place>,
    args: ReadonlyArray<string>,
    marks: ReadonlyArray<TagMark>,
    stamps: ReadonlyArray<string>,
    token: string
  ): Effect.Effect<ReadonlyArray<Begun>, StoreFailure> =>
    Effect.gen(function* () {
      const answers = yield* runAll(
        "begin",
        0,
        places.map((place, i) =>
          evaluate(scripts.begin, [keyOf(place)], [...args, stamps[i] as string, marksOf(marks)])
        ),
        (reply) => ({ what: (reply as Answer)[0], stored: storedOf(reply as Answer) })
      )
      const judged = yield* judge(
        "begin",
        places.map(({ tenantId }) => tenantId),
        answers.map(({ stored }) => stored)
      )
      const begun: Array<Begun | undefined> = answers.map(({ what }, i) => {
        const entry = entryOf(judged[i] ?? null)
        const place = places[i] as Place
        if (what === "granted") return { _tag: "Granted", ticket: { ...place, token, tags: marks }, entry }
        if (what === "busy") return { _tag: "Busy", entry }
        return entry !== null && entry.freshMs > 0 ? { _tag: "Fresh", entry } : undefined
      })
      // Those that a tag has ended: their own time says that they are fresh.
      const ended = places.flatMap((_, i) => (begun[i] === undefined ? [i] : []))
      // Those that look fresh to the script, and are no entries.
      const wrong = ended.filter((i) => answers[i]?.stored === null).map((i) => keyOf(places[i] as Place))
      if (wrong.length > 0) yield* unlink("begin", wrong)
      if (ended.length > 0) {
        const again = yield* beginAll(
          ended.map((i) => places[i] as Place),
          args,
          marks,
          ended.map((i) => answers[i]?.stored?.stamp ?? none),
          token
        )
        for (const [n, i] of ended.entries()) begun[i] = again[n]
      }
      return begun as ReadonlyArray<Begun>
    })

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

  const list = (operation: string, tenantId: string, keys: string) =>
    pages(operation, `${entriesOf(tenantId)}${keys}`, () => tenantId, entriesOf(tenantId).length)

  const allEntries = `${prefix}{k:`
  const tenantIn = (key: string): string =>
    decodeURIComponent(key.slice(allEntries.length, key.indexOf(":", allEntries.length)))

  const addresses = (page: Pages<Buffer, ReadFailure>): Pages<EncodedAddress, ReadFailure> =>
    Effect.flatMap(page, ({ items, next }) => {
      const keys = items.map(String)
      return Effect.map(look("addresses", keys), (found) => ({
        items: found.flatMap((stored, i) => {
          const key = keys[i] as string
          const tenantId = tenantIn(key)
          return stored === null ? [] : [{ tenantId, key: key.slice(entriesOf(tenantId).length), keyId: stored.keyId }]
        }),
        next: next === undefined ? undefined : addresses(next)
      }))
    })

  const removeAll = (begins: string) => database.scan(begins, "reset", (keys) => unlink("reset", keys))

  return {
    get: (place, left) => {
      if (left) return getWhole(place)
      return Effect.flatMap(
        run("get", 0, command("get", [keyOf(place)]), (reply) => reply as string | null),
        (text) => (isComplex(text) ? getWhole(place) : Effect.succeed(simpleEntry(text)))
      )
    },

    getMany: (tenantId, keys, left) => {
      const begin = entriesOf(tenantId)
      const names = keys.map((key) => begin + key)
      const whole = (names: ReadonlyArray<string>) =>
        Effect.flatMap(look("getMany", names), (found) =>
          Effect.map(
            judge(
              "getMany",
              names.map(() => tenantId),
              found
            ),
            (judged) => judged.map(entryOf)
          )
        )
      if (left) return whole(names)
      return Effect.flatMap(gets("getMany", names), (texts) => {
        const entries = texts.map((text) => (isComplex(text) ? null : simpleEntry(text)))
        const complex = texts.flatMap((text, i) => (isComplex(text) ? [i] : []))
        if (complex.length === 0) return Effect.succeed(entries)
        return Effect.map(whole(complex.map((i) => names[i] as string)), (found) => {
          for (const [n, i] of complex.entries()) entries[i] = found[n] ?? null
          return entries
        })
      })
    },

    set: (writes) => {
      const [first] = writes
      if (first === undefined) return Effect.void
      const { graceMs, tags, tenantId, ttlMs } = first
      const store = (marks: ReadonlyArray<TagMark>) =>
        writes.length === 1
          ? run("set", first.value.length, send(first, marks), () => undefined)
          : Effect.asVoid(
              runAll(
                "setMany",
                sizeOf(writes),
                writes.map((write) => send(write, marks)),
                () => undefined
              )
            )
      return tags.length === 0 ? store([]) : Effect.flatMap(takeTags("set", tenantId, tags, ttlMs + graceMs), store)
    },

    setIfAbsent: (write) =>
      Effect.flatMap(takeTags("setIfAbsent", write.tenantId, write.tags, write.ttlMs + write.graceMs), (marks) =>
        putIfAbsent(write, putArgs(write, marks), none)
      ),

    touch: (place, ttlMs) => touch(place, ttlMs, none),

    remove: (tenantId, keys) =>
      unlink(
        "delete",
        keys.map((key) => keyOf({ tenantId, key }))
      ),

    expire: (tenantId, keys) =>
      Effect.asVoid(
        runAll(
          "expire",
          0,
          keys.map((key) => evaluate(scripts.expire, [keyOf({ tenantId, key })], [])),
          () => undefined
        )
      ),

    invalidateTags: (tenantId, tags) =>
      unlink(
        "invalidate",
        tags.map((tag) => tagKeyOf(tenantId, tag))
      ),

    expireTags: (tenantId, tags) =>
      Effect.asVoid(
        runAll(
          "expire",
          0,
          tags.map((tag) => evaluate(scripts.expireTag, [tagKeyOf(tenantId, tag)], [])),
          () => undefined
        )
      ),

    begin: ({ keys, leaseMs, refreshMs, tags, tenantId, token }) =>
      Effect.flatMap(takeTags("begin", tenantId, tags, leaseMs), (marks) =>
        beginAll(
          keys.map((key) => ({ tenantId, key })),
          [token, timeOf(leaseMs), timeOf(refreshMs)],
          marks,
          keys.map(() => none),
          token
        )
      ),

    renew: (tickets, leaseMs) =>
      Effect.gen(function* () {
        const [first] = tickets
        if (first === undefined) return []
        const marks = tagsIn(first)
        const names = marks.map(({ name }) => name)
        const standing = sameTags(marks, yield* takeTags("renew", first.tenantId, names, leaseMs))
        return yield* runAll(
          "renew",
          0,
          tickets.map((ticket) => evaluate(scripts.renew, [keyOf(ticket)], [ticket.token, timeOf(leaseMs)])),
          (reply) => standing && reply === 1
        )
      }),

    settle: (settlements) =>
      Effect.gen(function* () {
        const [first] = settlements
        if (first === undefined) return []
        const marks = tagsIn(first.ticket)
        const keepMs = Math.max(
          1,
          ...settlements.map(({ write }) => (write === null ? 0 : write.ttlMs + write.graceMs))
        )
        const names = marks.map(({ name }) => name)
        const standing = sameTags(marks, yield* takeTags("settle", first.ticket.tenantId, names, keepMs))
        return yield* runAll(
          "settle",
          settlements.reduce((size, { write }) => size + (write?.value.length ?? 0), 0),
          settlements.map(({ holdMs, ticket, write }) => {
            const args = [ticket.token, timeOf(standing ? holdMs : 0)]
            const stored = write !== null && standing ? putArgs(write, marks) : []
            return evaluate(scripts.settle, [keyOf(ticket)], [...args, ...stored])
          }),
          (reply) => standing && reply === 1
        )
      }),

    replace: (place, was, payload) =>
      run(
        "replace",
        was.value.length + payload.value.length,
        evaluate(scripts.replace, [keyOf(place)], [encodePayload(was), encodePayload(payload)]),
        (reply) => reply === 1
      ),

    addresses: Effect.suspend(() => addresses(database.pages(allEntries, "addresses"))),

    list: (tenantId, keys) => list("list", tenantId, keys),

    count: (tenantId, keys) => drain(list("count", tenantId, keys)),

    // A ticket is at the key of its entry, which is there from the beginning of a load to the end of its entry: none
    // slips through while the keys are walked. Tags go last, and void what was begun with them.
    reset: (tenantId) =>
      tenantId === null
        ? Effect.zipRight(removeAll(allEntries), removeAll(`${prefix}{t:`))
        : Effect.zipRight(removeAll(entriesOf(tenantId)), removeAll(tagsOf(tenantId))),

    info: Effect.map(drain(pages("info", allEntries, tenantIn, 0)), (entries) => ({
      backend: "Redis",
      connection: database.connection,
      entries
    })),

    note: (name, value) =>
      run(
        "note",
        0,
        // What is kept once never changes, so two commands are as good as one.
        async (driver) => {
          if (value !== null) await command("hsetnx", [notes, name, value])(driver)
          return command("hget", [notes, name])(driver)
        },
        (reply) => (typeof reply === "string" ? reply : null)
      ),

    inTransaction: Effect.succeed(false)
  }
}
