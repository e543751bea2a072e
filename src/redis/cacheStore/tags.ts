/**
 * The generations of tags in Redis: taken when something is stored, compared when it is read. A tag's key lives as long
 * as the longest of its entries.
 */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import type { Failure } from "../database/ClientPool.js"
import { evaluate } from "../database/commands.js"
import { type Stored, type TagMark, timeOf } from "./format.js"
import type { KeyNames } from "./keyNames.js"
import type { Requests } from "./requests.js"
import * as scripts from "./scripts.js"

interface Tag {
  readonly generation: string
  readonly expiries: number
  readonly expiredAtMs: number
}

const parseTag = (text: string | null): Tag | null => {
  const [generation, expiries, expiredAt] = text === null ? [] : text.split(":")
  return generation === undefined || expiredAt === undefined
    ? null
    : { generation, expiries: Number(expiries), expiredAtMs: Number(expiredAt) }
}

export const sameTags = (taken: ReadonlyArray<TagMark>, now: ReadonlyArray<TagMark>): boolean =>
  taken.every(({ expiries, generation }, i) => now[i]?.generation === generation && now[i]?.expiries === expiries)

export type Tags = ReturnType<typeof make>

export const make = ({ gets, runAll }: Requests, keyNames: KeyNames) => {
  /** What the entries are by their tags as well: null for those that a tag has removed. */
  const judge = (
    operation: string,
    tenants: ReadonlyArray<string>,
    found: ReadonlyArray<Stored | null>
  ): Effect.Effect<ReadonlyArray<Stored | null>, Failure> => {
    const tags = new Map<string, Tag | null>()
    for (const [i, stored] of found.entries()) {
      for (const { name } of stored?.tags ?? []) tags.set(keyNames.tag(tenants[i] as string, name), null)
    }
    if (tags.size === 0) return Effect.succeed(found)
    const tagKeys = [...tags.keys()]
    return Effect.map(gets(operation, tagKeys), (texts) => {
      for (const [i, key] of tagKeys.entries()) tags.set(key, parseTag(texts[i] ?? null))
      return found.map((stored, i) => {
        if (stored === null || stored.tags.length === 0) return stored
        let { freshMs, keptMs } = stored
        for (const { expiries, generation, name } of stored.tags) {
          const tag = tags.get(keyNames.tag(tenants[i] as string, name)) ?? null
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

  /** Generations as they are now, made where there are none, to live for so long at least. */
  const takeTags = (
    operation: string,
    tenantId: string,
    tags: ReadonlyArray<string>,
    keepMs: number
  ): Effect.Effect<ReadonlyArray<TagMark>, Failure> =>
    runAll(
      operation,
      0,
      tags.map((tag) => evaluate(scripts.tag, [keyNames.tag(tenantId, tag)], [randomUUID(), timeOf(keepMs)])),
      (reply, i) => {
        const { expiries, generation } = parseTag(reply as string) as Tag
        return { name: tags[i] as string, generation, expiries }
      }
    )

  return { judge, judgeOne, takeTags }
}
