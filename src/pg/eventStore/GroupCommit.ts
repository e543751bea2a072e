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
import { PoolTimeout, type StoreFailure } from "../../Errors.js"
import type { EncodedAppend } from "../../eventStore/EventStoreEncoded.js"
import type { Limits } from "../../Pool.js"
import type { Statement } from "../database/access.js"
import { sqlStateOf } from "../database/failures.js"
import { StreamQueues } from "./StreamQueues.js"
import type { Answer, Attempt } from "./statements.js"

/** Running statements, at most. Two keep the server busy while a result travels; more would make groups smaller. */
const underWayMax = 2

/** Appends in one group, at most: bounds how long the first waits for the last, and the size of the message. */
const groupEventsMax = 100
const groupCharsMax = 1024 * 1024

export interface GroupCommitOptions {
  readonly limits: Pick<Limits, "acquireTimeoutMs" | "maxOpenConns" | "maxWaiting">
  /** Runs a statement outside any fiber and transaction; the effect it returns ends the statement. */
  readonly submit: <A>(query: Statement<A>, done: (exit: Exit.Exit<A, StoreFailure>) => void) => Effect.Effect<void>
  /** One append, waiting for locks or not. */
  readonly one: (append: EncodedAppend, wait: boolean) => Statement<Attempt>
  /** Appends of one event each, in order, none waiting for a lock. */
  readonly group: (appends: ReadonlyArray<EncodedAppend>) => Statement<ReadonlyArray<Attempt>>
}

interface Item {
  readonly append: EncodedAppend
  readonly deadline: number
  readonly settle: (exit: Exit.Exit<Answer, StoreFailure>) => void
  /** Its caller has gone, so it is not sent again. */
  interrupted: boolean
  /** Ends the statement that was sent for this one only. */
  abandon: Effect.Effect<void>
}

/** An `append` of a single event to a single stream, outside a transaction. */
export const make = (options: GroupCommitOptions): ((append: EncodedAppend) => Effect.Effect<Answer, StoreFailure>) => {
  const { group, limits, one, submit } = options
  // In order of arrival, and so of deadlines.
  const line = new Set<Item>()
  let underWay = 0
  let timer: NodeJS.Timeout | undefined

  const locked = new StreamQueues<Item>({
    underWayMax: Math.max(1, Math.floor(limits.maxOpenConns / 2)),
    waitingMax: limits.maxWaiting,
    keyOf: ({ append: { stream } }) => JSON.stringify([stream.tenantId, stream.domain, stream.aggregateId]),
    deadlineOf: ({ deadline }) => deadline,
    start: (item, ended) => {
      item.abandon = submit(one(item.append, true), (exit) => {
        // A statement that waits for the lock is never `Busy`.
        item.settle(exit as Exit.Exit<Answer, StoreFailure>)
        ended()
      })
    },
    expire: ({ settle }, waiting) => settle(Exit.fail(timedOut(limits.acquireTimeoutMs, waiting)))
  })

  const alone = (item: Item): void => {
    if (item.interrupted) item.settle(Exit.interrupt(FiberId.none))
    else locked.add(item)
  }

  const settleOrRetry = (item: Item, exit: Exit.Exit<Attempt, StoreFailure>): void => {
    if (Exit.isSuccess(exit)) {
      if (exit.value === "Busy") alone(item)
      else item.settle(Exit.succeed(exit.value))
    } else if (isLocked(exit)) alone(item)
    else item.settle(Exit.failCause(exit.cause))
  }

  const send = (items: ReadonlyArray<Item>): void => {
    underWay++
    const [first] = items as [Item]
    if (items.length === 1) {
      first.abandon = submit(one(first.append, false), (exit) => {
        underWay--
        settleOrRetry(first, exit)
        next()
      })
      return
    }
    submit(group(items.map(({ append }) => append)), (exit) => {
      underWay--
      if (Exit.isSuccess(exit)) {
        for (const [i, item] of items.entries()) settleOrRetry(item, Exit.succeed(exit.value[i] as Attempt))
      } else if (isShared(exit)) for (const item of items) item.settle(Exit.failCause(exit.cause))
      // The cause may lie in one member only, so each is tried alone.
      else for (const item of items) alone(item)
      next()
    })
  }

  const next = (): void => {
    if (line.size === 0 || underWay >= underWayMax) return
    const items: Array<Item> = []
    let chars = 0
    for (const item of line) {
      const event = item.append.events[0]
      chars += (event?.data.length ?? 0) + (event?.metadata.length ?? 0)
      if (items.length > 0 && (items.length === groupEventsMax || chars > groupCharsMax)) break
      items.push(item)
    }
    for (const item of items) line.delete(item)
    send(items)
  }

  const watchLine = (): void => {
    timer = undefined
    for (const item of line) {
      const left = item.deadline - Date.now()
      if (left > 0) {
        // Appends in the queue wait for running statements, which keep the process alive. A timer left over must not.
        timer = setTimeout(watchLine, Math.min(left, 2 ** 31 - 1)).unref()
        return
      }
      line.delete(item)
      item.settle(Exit.fail(timedOut(limits.acquireTimeoutMs, line.size)))
    }
  }

  return (append) =>
    Effect.async((resume) => {
      let settled = false
      let onSettled: (() => void) | undefined
      const item: Item = {
        append,
        deadline: Date.now() + limits.acquireTimeoutMs,
        settle: (exit) => {
          settled = true
          resume(exit)
          onSettled?.()
        },
        interrupted: false,
        abandon: Effect.void
      }
      if (underWay < underWayMax && line.size === 0) send([item])
      else if (line.size >= limits.maxWaiting) item.settle(Exit.fail(timedOut(0, line.size)))
      else {
        line.add(item)
        if (timer === undefined) watchLine()
      }
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

/** A failure that all members of a group share: nothing was sent, or the connection was lost. */
const isShared = (exit: Exit.Failure<unknown, StoreFailure>): boolean =>
  exit.cause._tag === "Fail" &&
  (exit.cause.error._tag === "PoolTimeout" || exit.cause.error._tag === "CommitOutcomeUnknown")

/** Locked for longer than a shared statement waits: rolled back, like `Busy`. */
const isLocked = (exit: Exit.Failure<unknown, StoreFailure>): boolean =>
  exit.cause._tag === "Fail" && sqlStateOf(exit.cause.error) === "55P03"

const timedOut = (waitedMs: number, waiting: number): PoolTimeout =>
  new PoolTimeout({ waitedMs, open: underWayMax, waiting })
