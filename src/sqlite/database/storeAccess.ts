/**
 * What the stores use of an open SQLite database. It is kept under a symbol that no entry point exports, so that what
 * users see of a database is for users.
 */
import type * as Effect from "effect/Effect"
import type { ReadFailure, StoreFailure } from "../../Errors.js"
import type { InContext } from "../../sql/transactions.js"
import type { Step } from "./access.js"

export const storeAccess: unique symbol = Symbol.for("effect-stores/SqliteDatabase/storeAccess")

export interface StoreAccess {
  /** The file. */
  readonly connection: string

  /** The user's `transaction`. */
  readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | StoreFailure, R>

  /**
   * Runs a step on the connection that writes, or in the transaction of the fiber. `committed` is called once what the
   * step did is committed.
   */
  readonly write: <A>(
    operation: string,
    step: Step<A>,
    committed?: (value: A) => void
  ) => Effect.Effect<A, StoreFailure>

  /** Runs a step that only reads on a connection that reads, or in the transaction of the fiber. */
  readonly read: <A>(operation: string, step: Step<A>) => Effect.Effect<A, ReadFailure>

  /** Whether the fiber is in a transaction of this database that can write. */
  readonly inTransaction: (fiber: InContext) => boolean
}
