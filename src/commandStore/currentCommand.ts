/**
 * What a running command gives to what runs in it: its id, and ids for the events that it appends.
 */
import type * as Context from "effect/Context"
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
