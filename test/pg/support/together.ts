/**
 * Starts effects, one after the other, while the only connection of the database is taken; then they go on. Two are
 * sent by themselves, and the others meanwhile become a group.
 */
import { Deferred, Effect, Fiber } from "effect"
import { PgDatabase } from "effect-stores/pg"

export const together = <A, E>(
  effects: ReadonlyArray<Effect.Effect<A, E>>,
  meanwhile: (fibers: ReadonlyArray<Fiber.RuntimeFiber<A, E>>) => Effect.Effect<unknown> = () => Effect.void
) =>
  Effect.gen(function* () {
    const { transaction } = yield* PgDatabase.PgDatabase
    const held = yield* Deferred.make<void>()
    const go = yield* Deferred.make<void>()
    const holder = yield* Effect.fork(
      transaction(Effect.zipRight(Deferred.succeed(held, undefined), Deferred.await(go)))
    )
    yield* Deferred.await(held)
    const fibers: Array<Fiber.RuntimeFiber<A, E>> = []
    for (const effect of effects) {
      fibers.push(yield* Effect.fork(effect))
      yield* Effect.yieldNow()
    }
    yield* meanwhile(fibers)
    yield* Deferred.succeed(go, undefined)
    yield* Fiber.join(holder)
    return yield* Effect.forEach(fibers, Fiber.await)
  })
