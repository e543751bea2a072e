/**
 * What a running command gives to what runs in it: its id, ids for the events that it appends, and the knowledge that
 * it is running, since to wait for it there would be to wait for oneself.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import type { CurrentCommand } from "../CommandStore.js"
import { streamKey } from "../StreamId.js"
import * as Uuid from "../Uuid.js"

type EventIds = (index: number) => string

export const currentCommand = (id: string, attempt: number): Context.Tag.Service<typeof CurrentCommand> => {
  const steps = new Map<string, ReadonlyArray<EventIds>>()
  return {
    id,
    attempt,
    nextEventIds: (stream) => {
      const { aggregateId, domain, tenantId } = stream
      const given = steps.get(streamKey(stream)) ?? []
      const ids: EventIds = (index) => Uuid.derived(id, [tenantId, domain, aggregateId, given.length, index])
      steps.set(streamKey(stream), [...given, ids])
      return ids
    },
    returnEventIds: (stream, ids) => {
      const given = steps.get(streamKey(stream)) ?? []
      if (given[given.length - 1] === ids) steps.set(streamKey(stream), given.slice(0, -1))
    }
  }
}

/** A command in whose effect a fiber runs. */
interface Executing {
  readonly store: object
  readonly id: string
  /** A fiber that was forked in the effect may outlive it, and may ask for its outcome then. */
  hasEnded: boolean
  readonly outer: Executing | undefined
}

const executing = FiberRef.unsafeMake<Executing | undefined>(undefined)

/** Runs the effect of a command, so that it and the fibers forked in it know of that. */
export const inEffectOf = <A, E, R>(
  store: object,
  id: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(FiberRef.get(executing), (outer) => {
    const command: Executing = { store, id, hasEnded: false, outer }
    return Effect.ensuring(
      Effect.locally(effect, executing, command),
      Effect.sync(() => {
        command.hasEnded = true
      })
    )
  })

/** The ids of the commands from this one to the innermost, when the fiber runs in its effect; otherwise none. */
export const reentered = (store: object, id: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(FiberRef.get(executing), (innermost) => {
    const ids: Array<string> = []
    for (let command = innermost; command !== undefined; command = command.outer) {
      ids.unshift(command.id)
      if (command.store === store && command.id === id && !command.hasEnded) return ids
    }
    return []
  })
