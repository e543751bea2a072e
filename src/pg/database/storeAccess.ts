/**
 * What the stores use of an open PostgreSQL database. It is kept under a symbol that no entry point exports, so that
 * what users see of a database is for users.
 */
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { StoreFailure } from "../../Errors.js"
import type { Limits } from "../../Pool.js"
import type { InContext } from "../../sql/transactions.js"
import type { Statement } from "./access.js"
import type { FailureOf, QueryKind } from "./failures.js"
import type { ConnectionSettings } from "./settings.js"

export const storeAccess: unique symbol = Symbol.for("effect-stores/PgDatabase/storeAccess")

export interface StoreAccess {
  readonly connection: string

  /** The user's `transaction`, with its default options. */
  readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | StoreFailure, R>

  /** Runs a statement on a connection of the pool, or in the transaction of the fiber. */
  readonly run: <A, K extends QueryKind>(query: Statement<A, K>) => Effect.Effect<A, FailureOf<K>>

  /** The same, and calls back once what it did is committed. */
  readonly write: <A>(query: Statement<A>, committed: (value: A) => void) => Effect.Effect<A, StoreFailure>

  /**
   * Runs a statement on a connection of the pool, outside any fiber and transaction. The effect it returns ends the
   * statement, as interruption ends `run`; `done` is called in any case.
   */
  readonly submit: <A>(query: Statement<A>, done: (exit: Exit.Exit<A, StoreFailure>) => void) => Effect.Effect<void>

  /** Whether the fiber is in a transaction of this database. */
  readonly inTransaction: (fiber: InContext) => boolean

  readonly limits: Limits

  /** The settings of a store's own connection (LISTEN). */
  readonly settings: ConnectionSettings
}
