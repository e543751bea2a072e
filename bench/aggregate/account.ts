/**
 * The aggregate that is loaded, and its events: a small state over many events, whose payloads have the size asked for.
 */
import { DateTime, Duration, Schema } from "effect"
import { Aggregate, type EventStore, SnapshotPolicy } from "effect-stores"

const State = Schema.Struct({ balance: Schema.Number, entries: Schema.Number, last: Schema.String })
const Event = Schema.Union(
  Schema.TaggedStruct("Deposited", { amount: Schema.Number, note: Schema.String }),
  Schema.TaggedStruct("Withdrawn", { amount: Schema.Number, note: Schema.String })
)

const definition = {
  domain: "account",
  state: State,
  event: Event,
  initial: { balance: 0, entries: 0, last: "" },
  evolve: ({ balance, entries }: typeof State.Type, { _tag, amount }: typeof Event.Type): typeof State.Type => ({
    balance: _tag === "Deposited" ? balance + amount : balance - amount,
    entries: entries + 1,
    last: _tag
  }),
  // A pause of the machine is part of the figures, and no reason to read all events.
  snapshotTimeout: Duration.minutes(1)
}

export const Account = Aggregate.make({ ...definition, snapshots: SnapshotPolicy.every(100) })

/** The same, leaving a snapshot behind wherever it is loaded. */
export const Saving = Aggregate.make({ ...definition, snapshots: SnapshotPolicy.every(1) })

/** The same, always replayed from the first event. */
export const Replayed = Aggregate.make({ ...definition, snapshots: SnapshotPolicy.never })

/** A replay that calls `each` before every event. */
export const observed = (each: () => void) =>
  Aggregate.make({
    ...definition,
    snapshots: SnapshotPolicy.never,
    evolve: (state, event) => {
      each()
      return definition.evolve(state, event)
    }
  })

export const idOf = (length: number, bytes: number): Aggregate.Id => ({
  tenantId: "bench",
  aggregateId: `${length}-events-of-${bytes}-bytes`
})

export const streamOf = (id: Aggregate.Id): EventStore.StreamId => ({ ...id, domain: Account.domain })

const seededFromMs = Date.UTC(2025, 0, 1)

/** The events after a version, of `bytes` bytes of data each, no two at the same moment: a stream grows over time. */
export const eventsAfter = (version: number, count: number, bytes: number): Array<EventStore.NewEvent> =>
  Array.from({ length: count }, (_, i) => {
    const amount = (version + i) % 97
    const note = "x".repeat(bytes - JSON.stringify({ amount, note: "" }).length)
    return {
      type: i % 3 === 2 ? "Withdrawn" : "Deposited",
      data: { amount, note },
      createdAt: DateTime.unsafeMake(seededFromMs + version + i)
    }
  })
