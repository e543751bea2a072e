/**
 * The CacheStore's port on Redis. Entries and tags are keys of their own, which on a Cluster are on different nodes; so
 * an entry carries the generations of its tags, and whoever reads it compares them with the tags: a removal by tag is
 * one UNLINK of the tag. Nothing lists what belongs to what, so nothing outlives its entries.
 */
import * as Effect from "effect/Effect"
import type { Encoded, EncodedEntry, EncodedWrite, Place } from "../../cacheStore/CacheStoreEncoded.js"
import type { StoreFailure } from "../../Errors.js"
import { type Failure, Instead } from "../database/ClientPool.js"
import { command, evaluate, type Send } from "../database/commands.js"
import type { RedisDatabaseShape } from "../RedisDatabase.js"
import {
  encodePayload,
  encodeSimple,
  entryOf,
  isComplex,
  none,
  putArguments,
  simpleEntryOf,
  type TagMark,
  timeOf
} from "./format.js"
import { KeyNames } from "./keyNames.js"
import * as lists from "./lists.js"
import * as loads from "./loads.js"
import * as Requests from "./requests.js"
import { type Answer, storedOf } from "./requests.js"
import * as scripts from "./scripts.js"
import * as Tags from "./tags.js"

export const make = (database: RedisDatabaseShape, prefix: string): Encoded => {
  const keyNames = new KeyNames(prefix)
  const requests = Requests.make(database)
  const tags = Tags.make(requests, keyNames)
  const { gets, look, run, runAll, unlink } = requests
  const { judge, judgeOne, takeTags } = tags

  const sizeOf = (writes: ReadonlyArray<EncodedWrite>): number =>
    writes.reduce((size, { value }) => size + value.length, 0)

  const send = (write: EncodedWrite, marks: ReadonlyArray<TagMark>): Send => {
    const key = keyNames.entry(write)
    if (write.graceMs > 0 || marks.length > 0) return evaluate(scripts.put, [key], putArguments(write, marks))
    const text = encodeSimple(write)
    return command(
      "set",
      write.ttlMs === Number.POSITIVE_INFINITY ? [key, text] : [key, text, "PX", timeOf(write.ttlMs)]
    )
  }

  const getWhole = (place: Place): Effect.Effect<EncodedEntry | null, Failure> =>
    Effect.flatMap(look("get", [keyNames.entry(place)]), ([stored]) =>
      Effect.map(judgeOne("get", place.tenantId, stored ?? null), entryOf)
    )

  const putIfAbsent = (
    write: EncodedWrite,
    args: ReadonlyArray<string>,
    dead: string
  ): Effect.Effect<boolean, StoreFailure> =>
    Effect.flatMap(
      run(
        "setIfAbsent",
        write.value.length,
        evaluate(scripts.putIfAbsent, [keyNames.entry(write)], [...args, dead]),
        (reply) => (typeof reply === "number" ? reply === 1 : storedOf(reply as Answer))
      ),
      (outcome) => {
        if (typeof outcome === "boolean") return Effect.succeed(outcome)
        // It looks fresh to the script, and is no entry.
        if (outcome === null) {
          return Effect.zipRight(unlink("setIfAbsent", [keyNames.entry(write)]), putIfAbsent(write, args, none))
        }
        return Effect.flatMap(judgeOne("setIfAbsent", write.tenantId, outcome), (judged) =>
          judged !== null && judged.freshMs > 0 ? Effect.succeed(false) : putIfAbsent(write, args, outcome.stamp)
        )
      }
    )

  const touch = (place: Place, ttlMs: number, checked: string): Effect.Effect<boolean, StoreFailure> =>
    Effect.flatMap(
      run("touch", 0, evaluate(scripts.touch, [keyNames.entry(place)], [timeOf(ttlMs), checked]), (reply) =>
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

  const removeAll = (begins: string) => database.scan(begins, "reset", (keys) => unlink("reset", keys))

  return {
    get: (place, left) => {
      if (left) return getWhole(place)
      return run("get", 0, command("get", [keyNames.entry(place)]), (reply) => {
        const text = reply as string | null
        return isComplex(text) ? new Instead(getWhole(place)) : simpleEntryOf(text)
      })
    },

    getMany: (tenantId, keys, left) => {
      const begin = keyNames.entriesOf(tenantId)
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
        const entries = texts.map((text) => (isComplex(text) ? null : simpleEntryOf(text)))
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
        putIfAbsent(write, putArguments(write, marks), none)
      ),

    touch: (place, ttlMs) => touch(place, ttlMs, none),

    remove: (tenantId, keys) =>
      unlink(
        "delete",
        keys.map((key) => keyNames.entry({ tenantId, key }))
      ),

    expire: (tenantId, keys) =>
      Effect.asVoid(
        runAll(
          "expire",
          0,
          keys.map((key) => evaluate(scripts.expire, [keyNames.entry({ tenantId, key })], [])),
          () => undefined
        )
      ),

    invalidateTags: (tenantId, tags) =>
      unlink(
        "invalidate",
        tags.map((tag) => keyNames.tag(tenantId, tag))
      ),

    expireTags: (tenantId, tags) =>
      Effect.asVoid(
        runAll(
          "expire",
          0,
          tags.map((tag) => evaluate(scripts.expireTag, [keyNames.tag(tenantId, tag)], [])),
          () => undefined
        )
      ),

    ...loads.make(requests, tags, keyNames),

    replace: (place, was, payload) =>
      run(
        "replace",
        was.value.length + payload.value.length,
        evaluate(scripts.replace, [keyNames.entry(place)], [encodePayload(was), encodePayload(payload)]),
        (reply) => reply === 1
      ),

    ...lists.make(database, requests, tags, keyNames),

    // A ticket is at the key of its entry, which is there from the beginning of a load to the end of its entry: none
    // slips through while the keys are walked. Tags go last, and void what was begun with them.
    reset: (tenantId) =>
      tenantId === null
        ? Effect.zipRight(removeAll(keyNames.entries), removeAll(keyNames.tags))
        : Effect.zipRight(removeAll(keyNames.entriesOf(tenantId)), removeAll(keyNames.tagsOf(tenantId))),

    note: (name, value) =>
      run(
        "note",
        0,
        // What is kept once never changes, so two commands are as good as one.
        async (driver) => {
          if (value !== null) await command("hsetnx", [keyNames.notes, name, value])(driver)
          return command("hget", [keyNames.notes, name])(driver)
        },
        (reply) => (typeof reply === "string" ? reply : null)
      ),

    inTransaction: Effect.succeed(false)
  }
}
