/**
 * The port as loads use it: what a backend that fails would give is nothing, and no error. After a failure nobody waits
 * for it, until the breaker has found it back.
 */
import * as Effect from "effect/Effect"
import type { StoreFailure } from "../Errors.js"
import { Breaker } from "./Breaker.js"
import type { BeginRequest, Begun, Encoded, EncodedEntry, Place, Settlement } from "./CacheStoreEncoded.js"

export class GuardedPort {
  private readonly breaker: Breaker

  constructor(
    /** For where a failure is to be seen, and told to `failed`. */
    readonly encoded: Encoded,
    breaker: boolean
  ) {
    this.breaker = new Breaker(breaker)
  }

  /** Whether to do without the backend now. */
  get isDown(): boolean {
    return this.breaker.isOpen
  }

  failed(error: StoreFailure): Effect.Effect<void> {
    return Effect.sync(() => {
      if (error.retryable) this.breaker.trip()
    })
  }

  /** Finds out in the background whether the backend is back, by a look at this place. */
  probe(place: Place): Effect.Effect<void> {
    return this.breaker.probe(this.encoded.get(place, false))
  }

  /** What is there, in the order of the keys. */
  look(
    tenantId: string,
    keys: ReadonlyArray<string>,
    left: boolean
  ): Effect.Effect<ReadonlyArray<EncodedEntry | null>> {
    const [key] = keys
    if (key === undefined) return Effect.succeed([])
    // One key is the usual case, and cheaper to ask for by itself.
    return this.orNone({ tenantId, key }, () =>
      keys.length === 1
        ? Effect.map(this.encoded.get({ tenantId, key }, left), (entry) => [entry])
        : this.encoded.getMany(tenantId, keys, left)
    )
  }

  /** Begins loads, in the order of the keys. */
  begin(request: BeginRequest): Effect.Effect<ReadonlyArray<Begun>> {
    const { keys, tenantId } = request
    return this.orNone({ tenantId, key: keys[0] as string }, () => this.encoded.begin(request))
  }

  /** Which of them were still standing. */
  settle(settlements: ReadonlyArray<Settlement>): Effect.Effect<ReadonlyArray<boolean>> {
    return settlements.length === 0
      ? Effect.succeed([])
      : Effect.catchAll(this.encoded.settle(settlements), (error) => Effect.as(this.failed(error), []))
  }

  private orNone<A>(
    place: Place,
    ask: () => Effect.Effect<ReadonlyArray<A>, StoreFailure>
  ): Effect.Effect<ReadonlyArray<A>> {
    return Effect.suspend(() =>
      this.isDown
        ? Effect.as(this.probe(place), [])
        : Effect.catchAll(ask(), (error) => Effect.as(this.failed(error), []))
    )
  }
}
