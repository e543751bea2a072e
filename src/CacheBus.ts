/**
 * How processes tell each other of removals, for the first of two levels (`CacheStoreTwoLevels`). A backend gives one;
 * messages may be lost while it is not connected, and whoever listens is told so.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreFailure } from "./Errors.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Listener {
  readonly message: (text: string) => void
  /** From now on every message is heard, until `lost`. */
  readonly connected: () => void
  readonly lost: () => void
}

/**
 * @since 0.1.0
 * @category models
 */
export interface CacheBusShape {
  /** Tells all listeners, this process's own too. Inside a transaction on the same database, when that commits. */
  readonly publish: (text: string) => Effect.Effect<void, StoreFailure>

  /** Listens until the scope closes, and connects again whenever the connection is lost or silent. */
  readonly listen: (listener: Listener) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class CacheBus extends Context.Tag("effect-stores/CacheBus")<CacheBus, CacheBusShape>() {}
