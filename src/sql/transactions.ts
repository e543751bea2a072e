/**
 * What transactions are on every SQL database: how they nest, which of them a fiber is in, and what happens after a
 * commit. How one begins, runs a statement and ends is its backend's.
 *
 * What `CommandStore.execute` with `transaction` promises can be kept on one database only. An append to a store on
 * another one would be committed although the command is rolled back, so it is refused while that transaction is open.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import { StoreError } from "../Errors.js"
import { detached } from "../internal/fibers.js"
import type * as Telemetry from "../internal/telemetry.js"
import type { Limits } from "../Pool.js"
import type { ConnectionPool } from "./ConnectionPool.js"

/** The part of a fiber from which its transaction is known. */
export interface InContext {
  readonly currentContext: Context.Context<never>
  getFiberRef<A>(ref: FiberRef.FiberRef<A>): A
}

/** A transaction, or a savepoint in one. `T` is the backend's own. */
export abstract class Transaction<T extends Transaction<T>> {
  /** Set when COMMIT or ROLLBACK enters the queue. */
  closing = false
  protected ended = false
  readonly savepoint: string
  private readonly depth: number
  private readonly whenCommitted: Array<() => void> = []

  constructor(readonly parent: T | undefined) {
    this.depth = parent === undefined ? 0 : parent.depth + 1
    this.savepoint = `effect_stores_${this.depth}`
  }

  /** Runs when the outermost transaction has committed; not if anything up to there rolls back. */
  onCommit(callback: () => void): void {
    this.whenCommitted.push(callback)
  }

  protected reportCommit(): void {
    for (const callback of this.whenCommitted) {
      if (this.parent === undefined) callback()
      else this.parent.onCommit(callback)
    }
  }
}

/**
 * The innermost transaction that is not ending. What a forked fiber does after COMMIT or ROLLBACK happens outside.
 * Nothing may queue behind these two, or it would run on the connection when others have it.
 */
const innermost = <T extends Transaction<T>>(transaction: T | undefined): T | undefined =>
  transaction?.closing === true ? innermost(transaction.parent) : transaction

/**
 * The transactions of one database. Fibers that are forked in one are in it too; who joins them is not. It is a
 * reference of the fiber and no service, since libraries replace the context (resolvers of @effect/sql), and joining a
 * fiber takes its context over.
 */
export abstract class Transactions<T extends Transaction<T>> {
  /** `spanned` wraps a transaction, or one that is nested, in a span if somebody can see it. */
  constructor(protected readonly spanned: ReturnType<typeof Telemetry.transactions>) {}

  private readonly ref = FiberRef.unsafeMake<T | undefined>(undefined, { join: (own) => own })

  current(fiber: InContext): T | undefined {
    return fiber.getFiberRef(detached) ? undefined : innermost<T>(fiber.getFiberRef(this.ref))
  }

  protected within<A, E, R>(transaction: T, self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return self.pipe(Effect.locally(this.ref, transaction), Effect.locally(detached, false))
  }
}

/** To the effects inside it, a transaction is a pool of one connection, which does not age. */
export const insideLimits = (limits: Limits): Limits => ({
  ...limits,
  maxOpenConns: 1,
  maxIdleConns: 1,
  connMaxLifetimeMs: Number.POSITIVE_INFINITY,
  connMaxIdleTimeMs: Number.POSITIVE_INFINITY
})

/** A nested transaction has not ended yet. */
export const isBusy = <C extends object>({ state: { idle, open } }: ConnectionPool<C>): boolean => open > idle

/**
 * The end of the pool inside a transaction. A fiber that outlives a rolled back transaction may still hold the
 * connection. Nobody should wait for it.
 */
export const shutdownInside = <C extends object>(inside: ConnectionPool<C>): Effect.Effect<void> =>
  isBusy(inside) ? Effect.asVoid(Effect.forkDaemon(inside.shutdown)) : inside.shutdown

export interface Database {
  /** Where it is, without secrets. */
  readonly connection: string
  readonly inTransaction: (fiber: InContext) => boolean
}

interface Mark {
  readonly database: Database
  /** What opens such databases. */
  readonly module: string
}

const Executing = Context.GenericTag<Mark>("effect-stores/sql/Executing")

/** What a command does in a transaction of the database, which `module` has opened. */
export const executing = <A, E, R>(
  database: Database,
  module: string,
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => Effect.provideService(self, Executing, { database, module })

/**
 * Why the fiber must not append on this database. The cure names what opens the command's, which may be of another
 * kind.
 */
export const refusal = (fiber: InContext, database: Database): StoreError | undefined => {
  const mark: Mark | undefined = fiber.currentContext.unsafeMap.get(Executing.key)
  if (mark === undefined || mark.database === database || !mark.database.inTransaction(fiber)) return undefined
  const why =
    `the command is executed in a transaction of another database (${mark.database.connection}): ` +
    `give both stores one ${mark.module}.layer, through their layerFromDatabase`
  return new StoreError({ operation: "append", cause: new Error(why) })
}
