/**
 * Generators of what the EventStore's tests append, and comparisons of what they read. Every test has streams and
 * tenants of its own instead of cleaning up, so the suite can run on a store that holds other events.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import type { Event, NewEvent, StreamId } from "../../EventStore.js"
import { EventStore } from "../../EventStore.js"
import type { Test as AnyTest } from "../suite.js"
import { collect, isIncreasing } from "../suite.js"

export type Test = AnyTest<EventStore>

export const freshTenant = (): string => `tenant-${randomUUID()}`

export const streamOf = (tenantId: string, aggregateId = "1", domain = "order"): StreamId => ({
  tenantId,
  domain,
  aggregateId
})

export const freshStream = (): StreamId => streamOf(freshTenant())

let count = 0

export type GivenEvent = NewEvent & { readonly id: string }

export const newEvent = (fields: Partial<NewEvent> = {}): GivenEvent =>
  ({
    id: randomUUID(),
    type: "Happened",
    data: { n: ++count },
    ...fields
  }) as GivenEvent

export const newEvents = (length: number, fields: (i: number) => Partial<NewEvent> = () => ({})): Array<GivenEvent> =>
  Array.from({ length }, (_, i) => newEvent(fields(i)))

export const ids = (events: ReadonlyArray<{ readonly id?: string | undefined }>): Array<string | undefined> =>
  events.map(({ id }) => id)

export const versions = (events: ReadonlyArray<Event>): Array<number> => events.map(({ version }) => version)

export const readAll = (stream: StreamId) => Effect.flatMap(EventStore, (store) => collect(store.read(stream)))

export const streamKey = ({ aggregateId, domain, tenantId }: StreamId): string =>
  JSON.stringify([tenantId, domain, aggregateId])

/** An event in a form that is compared by value: a DateTime computes parts of itself when it is looked at. */
export const plain = (event: Event) => ({ ...event, createdAt: event.createdAt.epochMillis })

export const assertSameEvents = (actual: ReadonlyArray<Event>, expected: ReadonlyArray<Event>): void =>
  assert.deepEqual(actual.map(plain), expected.map(plain))

/** What every reader of the feed relies on: increasing positions, and each stream's versions in order. */
export const assertFeedOrder = (events: ReadonlyArray<Event>): void => {
  assert.ok(isIncreasing(events.map(({ position }) => position)), "positions must increase")
  const byStream = new Map<string, Array<number>>()
  for (const event of events) {
    const key = streamKey(event)
    byStream.set(key, [...(byStream.get(key) ?? []), event.version])
  }
  for (const [key, versions] of byStream) assert.ok(isIncreasing(versions), `versions of ${key} must increase`)
}
