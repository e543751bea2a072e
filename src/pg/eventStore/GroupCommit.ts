/**
 * Concurrent appends of one process share transactions. While a few statements are running, new appends wait in a
 * queue; the next statement takes the whole queue. An append that finds no statement running is sent at once, so
 * nothing is slower when idle. Each append keeps its own outcome.
 *
 * A group never waits for the lock of a stream, and only briefly for any other lock, because all its members would
 * wait. An append that finds its stream locked is sent again alone and waits there, queued with the others of that
 * stream. The technique is that of databases that commit to a log (UmaDB does it for events). On PostgreSQL it saves
 * round trips, commits and the client's work per statement.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import type { StoreFailure } from "../../Errors.js"
import type { StreamId } from "../../EventStore.js"
import type { EncodedAppend } from "../../eventStore/EventStoreEncoded.js"
import type { Limits } from "../../Pool.js"
import type { Statement } from "../database/access.js"
import { sqlStateOf } from "../database/failures.js"
import { groupCharsMax, Line, timedOut, underWayMax } from "../groups/Line.js"
import { StreamQueues } from "./StreamQueues.js"
import { type Answer, type Attempt, type Batch, keyOf } from "./statements.js"

/** A group has no more of each, which bounds how long the first waits for the last, and the size of the message. */
const groupMax = { appends: 100, streams: 200, events: 500, chars: groupCharsMax } as const

/**
 * Of one append in a group. The more events, the less is left to share: with 20 of them groups were as fast as
 * connections of their own, and with 100 slower, since two statements at a time do not keep the server busy.
 */
const eventsMax = 20

type Size = { readonly [K in keyof typeof groupMax]: number }

const none: Size = { appends: 0, streams: 0, events: 0, chars: 0 }

const plus = (size: Size, { appends, guards }: Batch): Size => {
  let { chars, events } = size
  for (const append of appends) {
    events += append.events.length
    for (const { data, metadata } of append.events) chars += data.length + metadata.length
  }
  return { appends: size.appends + 1, streams: size.streams + appends.length + guards.length, events, chars }
}

const fits = ({ appends, chars, events, streams }: Size): boolean =>
  appends <= groupMax.appends && streams <= groupMax.streams && events <= groupMax.events && chars <= groupMax.chars

/** Whether an append gains by a group. What is larger goes by itself. */
export const isSmall = (batch: Batch): boolean => {
  const size = plus(none, batch)
  return size.events <= eventsMax && fits(size)
}

export interface GroupCommitOptions {
  readonly limits: Pick<Limits, "acquireTimeoutMs" | "maxOpenConns" | "maxWaiting">
  /** Runs a statement outside any fiber and transaction; the effect it returns ends the statement. */
  readonly submit: <A>(query: Statement<A>, done: (exit: Exit.Exit<A, StoreFailure>) => void) => Effect.Effect<void>
  /** One append that waits for locks. */
  readonly waiting: (batch: Batch) => Statement<Answer>
  /** One append that does not. */
  readonly alone: (batch: Batch) => Statement<Attempt>
  /** Appends in order, none waiting for a lock. No two have an event id in common. */
  readonly group: (batches: ReadonlyArray<Batch>) => Statement<ReadonlyArray<Attempt>>
}

interface Item {
  readonly batch: Batch
  readonly deadline: number
  readonly settle: (exit: Exit.Exit<Answer, StoreFailure>) => void
  /** Its caller has gone, so it is not sent again. */
  interrupted: boolean
  /** Ends the statement that was sent for this one only. */
  abandon: Effect.Effect<void>
  /** The stream that was found locked. */
  locked: StreamId
}

/** An append outside a transaction that `isSmall`. */
export const make = (options: GroupCommitOptions): ((batch: Batch) => Effect.Effect<Answer, StoreFailure>) => {
  const { alone, group, limits, submit, waiting } = options
  const line = new Line<Item>(limits, ({ settle }, error) => settle(Exit.fail(error)))
  let underWay = 0

  const locked = new StreamQueues<Item>({
    underWayMax: Math.max(1, Math.floor(limits.maxOpenConns / 2)),
    waitingMax: limits.maxWaiting,
    keyOf: ({ locked }) => keyOf(locked),
    deadlineOf: ({ deadline }) => deadline,
    start: (item, ended) => {
      item.abandon = submit(waiting(item.batch), (exit) => {
        item.settle(exit)
        ended()
      })
    },
    expire: ({ settle }, waiting) => settle(Exit.fail(timedOut(limits.acquireTimeoutMs, waiting)))
  })

  /** Sends it again, by itself, to wait for the lock of a stream. */
  const wait = (item: Item): void => {
    if (item.interrupted) item.settle(Exit.interrupt(FiberId.none))
    else locked.add(item)
  }

  const settleOrWait = (item: Item, exit: Exit.Exit<Attempt, StoreFailure>): void => {
    if (Exit.isFailure(exit)) {
      if (isLocked(exit)) wait(item)
      else item.settle(Exit.failCause(exit.cause))
    } else if (exit.value !== "Exists" && exit.value._tag === "Busy") {
      item.locked = exit.value.stream
      wait(item)
    } else item.settle(Exit.succeed(exit.value))
  }

  const send = (items: ReadonlyArray<Item>): void => {
    underWay++
    const [first] = items as [Item]
    if (items.length === 1) {
      first.abandon = submit(alone(first.batch), (exit) => {
        underWay--
        settleOrWait(first, exit)
        next()
      })
      return
    }
    submit(group(items.map(({ batch }) => batch)), (exit) => {
      underWay--
      if (Exit.isSuccess(exit)) {
        for (const [i, item] of items.entries()) settleOrWait(item, Exit.succeed(exit.value[i] as Attempt))
      } else if (isShared(exit)) for (const item of items) item.settle(Exit.failCause(exit.cause))
      // The cause may lie in one member only, so each is tried alone.
      else for (const item of items) wait(item)
      next()
    })
  }

  const next = (): void => {
    if (line.size === 0 || underWay >= underWayMax) return
    const ids = new Set<string>()
    let size = none
    send(
      line.take(({ batch }) => {
        const isFirst = size === none
        size = plus(size, batch)
        // A repeat of one that is in it belongs in the next, which finds what this one has stored.
        return (isFirst || fits(size)) && addAll(ids, batch)
      })
    )
  }

  return (batch) =>
    Effect.async((resume) => {
      let settled = false
      let onSettled: (() => void) | undefined
      const item: Item = {
        batch,
        deadline: Date.now() + limits.acquireTimeoutMs,
        settle: (exit) => {
          settled = true
          resume(exit)
          onSettled?.()
        },
        interrupted: false,
        abandon: Effect.void,
        locked: (batch.appends[0] as EncodedAppend).stream
      }
      if (underWay < underWayMax && line.size === 0) send([item])
      else line.add(item)
      // An interrupted append that is still queued leaves the queue. If it was sent alone, its statement is ended. If
      // it was sent with others it is awaited, because ending the statement would end the others too; that is short,
      // since a group waits for no lock.
      return Effect.suspend(() => {
        if (settled || line.delete(item) || locked.leave(item)) return Effect.void
        item.interrupted = true
        const ended = Effect.async<void>((done) => {
          if (settled) done(Effect.void)
          else onSettled = () => done(Effect.void)
        })
        return Effect.zipRight(item.abandon, ended)
      })
    })
}

/** The ids of the batch's events, unless one of them is there. */
const addAll = (ids: Set<string>, { appends }: Batch): boolean => {
  for (const { events } of appends) if (events.some(({ id }) => ids.has(id))) return false
  for (const { events } of appends) for (const { id } of events) ids.add(id)
  return true
}

/** A failure that all members of a group share: nothing was sent, or the connection was lost. */
const isShared = (exit: Exit.Failure<unknown, StoreFailure>): boolean =>
  exit.cause._tag === "Fail" &&
  (exit.cause.error._tag === "PoolTimeout" || exit.cause.error._tag === "CommitOutcomeUnknown")

/** Locked for longer than a shared statement waits: rolled back, like `Busy`. */
const isLocked = (exit: Exit.Failure<unknown, StoreFailure>): boolean =>
  exit.cause._tag === "Fail" && sqlStateOf(exit.cause.error) === "55P03"
