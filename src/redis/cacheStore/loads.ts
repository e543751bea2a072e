/**
 * The tickets of loads in Redis: taken, renewed, and settled. Tags and the key of the entry may be on different nodes,
 * so each step takes the generations first: a removal after that finds the ticket, or the entry, with the old ones.
 */
import * as Effect from "effect/Effect"
import type { Begun, Encoded, Place, Ticket } from "../../cacheStore/CacheStoreEncoded.js"
import type { StoreFailure } from "../../Errors.js"
import { evaluate } from "../database/commands.js"
import { entryOf, marksOf, none, putArguments, type TagMark, timeOf } from "./format.js"
import type { KeyNames } from "./keyNames.js"
import { type Answer, type Requests, storedOf } from "./requests.js"
import * as scripts from "./scripts.js"
import { sameTags, type Tags } from "./tags.js"

const tagsIn = (ticket: Ticket): ReadonlyArray<TagMark> => ticket.tags as ReadonlyArray<TagMark>

export const make = (
  { runAll, unlink }: Requests,
  { judge, takeTags }: Tags,
  keyNames: KeyNames
): Pick<Encoded, "begin" | "renew" | "settle"> => {
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
          evaluate(scripts.begin, [keyNames.entry(place)], [...args, stamps[i] as string, marksOf(marks)])
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
      const wrong = ended.filter((i) => answers[i]?.stored === null).map((i) => keyNames.entry(places[i] as Place))
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

  return {
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
        const tags = marks.map(({ name }) => name)
        const standing = sameTags(marks, yield* takeTags("renew", first.tenantId, tags, leaseMs))
        return yield* runAll(
          "renew",
          0,
          tickets.map((ticket) => evaluate(scripts.renew, [keyNames.entry(ticket)], [ticket.token, timeOf(leaseMs)])),
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
        const tags = marks.map(({ name }) => name)
        const standing = sameTags(marks, yield* takeTags("settle", first.ticket.tenantId, tags, keepMs))
        return yield* runAll(
          "settle",
          settlements.reduce((size, { write }) => size + (write?.value.length ?? 0), 0),
          settlements.map(({ holdMs, ticket, write }) => {
            // A ticket whose tags have changed is void, and held on or not gives way.
            const args = [ticket.token, timeOf(holdMs)]
            const stored = write !== null && standing ? putArguments(write, marks) : []
            return evaluate(scripts.settle, [keyNames.entry(ticket)], [...args, ...stored])
          }),
          (reply) => standing && reply === 1
        )
      })
  }
}
