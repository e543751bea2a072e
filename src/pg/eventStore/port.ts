/**
 * The EventStore's port on PostgreSQL: which statement an append uses, and which failures it repairs.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type ReadFailure, type StoreError, type StoreFailure, StoreUnavailable } from "../../Errors.js"
import type { AppendOutcome, Encoded, EncodedFilter } from "../../eventStore/EventStoreEncoded.js"
import { eventIndexes } from "../../internal/storeOptions.js"
import { everywhere, evident, isLoose, lookGrowth, lookMax, rarest, type Way, waysOf } from "../../sql/eventLookups.js"
import { refusal } from "../../sql/transactions.js"
import type { Statement, StoreAccess } from "../database/access.js"
import { sqlStateOf } from "../database/failures.js"
import type { Names } from "../database/names.js"
import { note } from "../database/notes.js"
import { valuesOf } from "../database/pages.js"
import { valid } from "../database/schema/indexes.js"
import * as GroupCommit from "./GroupCommit.js"
import * as HeldBack from "./heldBack.js"
import * as PgHints from "./hints.js"
import { storeSchema } from "./schema.js"
import type { Answer, Attempt } from "./statements.js"
import * as statements from "./statements.js"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded, StoreFailure, Scope.Scope> =>
  Effect.gen(function* () {
    const sql = statements.make(names)
    const existing = yield* database.run(valid(names, storeSchema.table))
    const indexes = new Set(eventIndexes.filter((index) => existing.has(index)))
    // Outside any transaction and any fiber. If it fails, a hint is lost and nothing else.
    const notify = () => database.submit(sql.notify, () => {})
    const { hints, register } = yield* PgHints.make(database.settings.listener, names.channel, notify)
    const heldBack = yield* HeldBack.make({
      connection: database.connection,
      table: names.qualified("events").replaceAll('"', ""),
      holder: Effect.async((resume) => database.submit(sql.holder, resume))
    })
    const head: Statement<number, "read"> = {
      ...sql.head,
      onResult: (result) => {
        const seen = sql.head.onResult(result)
        heldBack.saw(seen)
        return seen.head
      }
    }
    const appended = (answer: Attempt) => {
      if (typeof answer === "object" && answer._tag === "Appended") hints.appended()
    }
    const grouped = GroupCommit.make({
      limits: database.limits,
      submit: database.submit,
      waiting: (batch) => observed(sql.append(batch), appended),
      alone: (batch) => observed(sql.tryAppend(batch), appended),
      group: (batches) => observed(sql.appendGroup(batches), (answers) => answers.forEach(appended))
    })

    /** The way that has the fewest events for a filter; `undefined` if no index has any. */
    const fewest = (
      filter: EncodedFilter,
      ways = waysOf(filter, indexes),
      max = lookMax
    ): Effect.Effect<Way | undefined, ReadFailure> =>
      ways.length < 2
        ? Effect.succeed(ways[0])
        : Effect.flatMap(database.run(sql.looks(ways, { ...everywhere, filter }, max)), (looks) =>
            looks.some(({ count }) => count < max)
              ? Effect.succeed(rarest(ways, looks, everywhere.direction, max))
              : fewest(filter, ways, max * lookGrowth)
          )

    return {
      append: (appends, guards) =>
        Effect.withFiberRuntime<AppendOutcome, StoreFailure>((fiber) => {
          const refused = refusal(fiber, database)
          if (refused !== undefined) return Effect.fail(refused)
          const inside = database.inTransaction(fiber)
          const batch = { appends, guards }
          const answer: Effect.Effect<Answer, StoreFailure> =
            !inside && database.settings.groupCommit && GroupCommit.isSmall(batch)
              ? grouped(batch)
              : database.write(sql.append(batch), appended)
          const attempt: Effect.Effect<AppendOutcome, StoreFailure> = Effect.flatMap(answer, (answer) => {
            if (answer !== "Exists") return Effect.succeed(answer)
            const ids = appends.flatMap(({ events }) => events.map(({ id }) => id))
            return Effect.flatMap(database.run(sql.byIds(ids)), (existing) =>
              // The events were deleted in between, so their ids are free again.
              existing === null ? attempt : Effect.succeed(existing)
            )
          })
          return Effect.catchAll(attempt, (error) => resolve(attempt, inside, error))
        }),
      readStream: (request) => database.run(sql.readStream(request)),
      version: (stream) => database.run(sql.version(stream)),
      head: database.run(head),
      lastPosition: database.run(sql.lastPosition),
      readFeed: (request) => {
        const ways = waysOf(request.filter, indexes)
        const way = evident(ways, request)
        if (way !== undefined) return database.run(sql.readFeed(request, way))
        return Effect.flatMap(database.run(sql.looks(ways, request, lookMax)), (looks) =>
          database.run(sql.readFeed(request, rarest(ways, looks, request.direction, lookMax)))
        )
      },
      get: (id) => database.run(sql.get(id)),
      distinct: (request) => {
        const rows = isLoose(request.field, request.filter, indexes)
          ? database.run(sql.distinctByIndex(request))
          : Effect.flatMap(fewest(request.filter), (way) => database.run(sql.distinct(request, way)))
        return Effect.flatMap(rows, (rows) => valuesOf(rows))
      },
      count: (filter) => Effect.flatMap(fewest(filter), (way) => database.run(sql.count(filter, way))),
      info: Effect.map(Effect.all([database.run(sql.info), database.run(sql.last)]), ([counts, lastEvent]) => ({
        backend: "Pg",
        connection: database.connection,
        ...counts,
        lastEvent
      })),
      update: (request) => database.run(sql.update(request)),
      replace: (request) => database.run(sql.replace(request)),
      deleteStream: (stream) => database.run(sql.deleteStream(stream)),
      reset: database.run(sql.reset),
      note: (name, value) => database.run(note(names, "EventStore", name, value)),
      hints: Effect.zipRight(heldBack.following, register),
      inTransaction: Effect.withFiberRuntime((fiber) => Effect.succeed(database.inTransaction(fiber)))
    }
  })

/** Reports what a statement has done, even if its caller has gone. */
const observed = <A>(query: Statement<A>, done: (value: A) => void): Statement<A> => ({
  ...query,
  onResult: (result) => {
    const value = query.onResult(result)
    done(value)
    return value
  }
})

/**
 * Repairs a failed append. Event ids make a repeat safe, so an append is repeated when its outcome is unknown, and when
 * a concurrent append took one of its ids: the repeat then finds the event stored. Inside a transaction of the caller
 * nothing is repeated, since only the caller can repeat the whole transaction.
 */
const resolve = (
  attempt: Effect.Effect<AppendOutcome, StoreFailure>,
  inTransaction: boolean,
  error: StoreFailure
): Effect.Effect<AppendOutcome, StoreFailure> => {
  if (isUniqueViolation(error)) {
    return inTransaction
      ? Effect.fail(new StoreUnavailable({ operation: "append", retryable: true, cause: error.cause }))
      : attempt
  }
  // The locks of this very transaction filled the server's table, and would fill it again.
  if (inTransaction && sqlStateOf(error) === "53200" && error._tag === "StoreUnavailable") {
    return Effect.fail(new StoreUnavailable({ operation: "append", retryable: false, cause: error.cause }))
  }
  if (error._tag !== "CommitOutcomeUnknown" || inTransaction) return Effect.fail(error)
  // Whatever the repeats return, the outcome of the first attempt stays unknown.
  return Effect.withClock(
    Effect.mapError(Effect.retry(attempt, reconnecting), () => error),
    realTime
  )
}

// Servers do not know a test's clock.
const realTime = Clock.make()

/** A server that restarts is back in about a second. */
const reconnecting = Schedule.intersect(Schedule.exponential("50 millis"), Schedule.recurs(6))

const isUniqueViolation = (error: StoreFailure): error is StoreError =>
  error._tag === "StoreError" &&
  error.operation === "append" &&
  typeof error.cause === "object" &&
  error.cause !== null &&
  "code" in error.cause &&
  error.cause.code === "23505"
