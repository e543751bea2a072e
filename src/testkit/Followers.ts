/**
 * Everything that follows the stores of a test, brought to rest.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { CheckpointStore } from "../CheckpointStore.js"
import type { CommandStore } from "../CommandStore.js"
import * as CommandWorker from "../CommandWorker.js"
import { InvalidInput } from "../Errors.js"
import { EventStore, type ReadError } from "../EventStore.js"
import * as Projection from "../Projection.js"

/**
 * What follows the stores: projections, reactions among them, and workers.
 *
 * @since 0.1.0
 * @category models
 */
export interface Followers<
  P extends ReadonlyArray<Projection.Projection<Projection.Delivery, unknown>>,
  W extends ReadonlyArray<CommandWorker.CommandWorker<unknown>>
> {
  readonly projections?: P | undefined
  readonly workers?: W | undefined
}

/** What comes to rest at all does so in a few. */
const roundsMax = 100

type ContextOfProjection<P> = P extends Projection.Projection<Projection.Delivery, infer R> ? R : never
type ContextOfWorker<W> = W extends CommandWorker.CommandWorker<infer R> ? R : never

/** The same worker, which tells when it begins with a command: one that fails may have done something before. */
const counting = <R>(worker: CommandWorker.CommandWorker<R>, begins: () => void): CommandWorker.CommandWorker<R> => {
  const definition = worker[CommandWorker.TypeId]
  const handlers = Array.from(definition.handlers, ([type, handler]) => {
    const work: typeof handler.work = (...attempt) => {
      begins()
      return handler.work(...attempt)
    }
    return [type, { ...handler, work }] as const
  })
  return { ...worker, [CommandWorker.TypeId]: { ...definition, handlers: new Map(handlers) } }
}

/**
 * Has them do all that is to be done now: projections handle events, reactions store commands, workers execute them,
 * and so on with the events of these, until nothing more comes of it. Commands that are due later stay, until a test
 * clock was adjusted. Nothing is waited for, so no other fiber may run the same projections.
 *
 * Fails with `InvalidInput` if they do not come to rest, because events lead to commands that lead to the same events.
 *
 * @since 0.1.0
 * @category running
 */
export const settle = <
  const P extends ReadonlyArray<Projection.Projection<Projection.Delivery, unknown>> = readonly [],
  const W extends ReadonlyArray<CommandWorker.CommandWorker<unknown>> = readonly []
>(
  followers: Followers<P, W>
): Effect.Effect<
  void,
  Projection.RunError | CommandWorker.RunError | ReadError,
  | ContextOfProjection<P[number]>
  | ContextOfWorker<W[number]>
  | EventStore
  | ([P[number]] extends [never] ? never : CheckpointStore)
  | ([W[number]] extends [never] ? never : CommandStore)
> => {
  type Context = ContextOfProjection<P[number]> | ContextOfWorker<W[number]>
  const projections = (followers.projections ?? []) as ReadonlyArray<
    Projection.Projection<Projection.Delivery, Context>
  >
  const given = (followers.workers ?? []) as ReadonlyArray<CommandWorker.CommandWorker<Context>>
  const round = Effect.gen(function* () {
    let begun = 0
    const workers = given.map((worker) => counting(worker, () => begun++))
    for (const projection of projections) yield* Projection.catchUp(projection)
    for (const worker of workers) yield* CommandWorker.catchUp(worker)
    return begun
  })
  const settled = Effect.gen(function* () {
    const { head } = yield* EventStore
    for (let rounds = 0; rounds < roundsMax; rounds++) {
      const before = yield* head
      const begun = yield* round
      if (begun === 0 && (yield* head) === before) return
    }
    return yield* new InvalidInput({ what: "followers", why: `have not come to rest in ${roundsMax} rounds` })
  })
  return settled as Effect.Effect<void, Effect.Effect.Error<typeof settled>, never>
}
