/**
 * What stores in memory are kept in. Stores on the same `MemoryDatabase` share its transactions, with the meaning that
 * they have on the other backends: a test in memory and production agree. It survives nothing but the layer's scope.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { StoreFailure } from "../Errors.js"
import { Database } from "./database/Database.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface MemoryDatabaseShape {
  /**
   * Runs the effect in a transaction. Everything that its fibers do in stores on this database meanwhile belongs to it
   * and sees its writes; others see none of them until it has committed. A failure or an interrupt of the effect undoes
   * everything and stays the cause.
   *
   * Nobody else writes while it is open, so keep it short: other writes and transactions wait in order of arrival, can
   * be interrupted, and end with `PoolTimeout` after 10 seconds. Reads do not wait. Inside another transaction it is a
   * savepoint: its failure, when caught, undoes only its own writes. Wait for forked fibers before the outer
   * transaction ends: what they do later happens outside of it, and when one is still in a transaction inside, it fails
   * with `StoreError` and is undone.
   */
  readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | StoreFailure, R>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class MemoryDatabase extends Context.Tag("effect-stores/MemoryDatabase")<
  MemoryDatabase,
  MemoryDatabaseShape
>() {}

/**
 * A database of its own for each call. When the scope has closed, stores on it fail with `StoreUnavailable`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<MemoryDatabaseShape, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => new Database()),
  (database) => Effect.sync(() => database.close())
)

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<MemoryDatabase> = Layer.scoped(MemoryDatabase, make)
