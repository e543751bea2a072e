/**
 * What applications do to their stores, as callers that draw their next operation from a seeded sequence.
 */
import { Chunk, Effect, Schema, Stream } from "effect"
import { Aggregate, CommandStore, EventStore, SnapshotStore } from "effect-stores"
import { Account, eventsAfter, idOf, Saving, streamOf as streamOfAccount } from "../aggregate/account.js"
import { data, metadata, tenantId, type } from "../eventStore/workloads.js"
import { type Random, uniform, zipf } from "./random.js"

export type Stores = EventStore.EventStore | CommandStore.CommandStore | SnapshotStore.SnapshotStore

export interface Operation {
  readonly kind: string
  /** How many events it appends. */
  readonly appends: number
  readonly effect: Effect.Effect<unknown, unknown, Stores>
}

export interface Load {
  readonly name: string
  readonly callers: number
  /** The kind of operation that stands for the load in a plot. */
  readonly plotted: string
  readonly prepare: Effect.Effect<unknown, unknown, Stores>
  /** The operations of a caller, one after the other. */
  readonly caller: (index: number, random: Random) => () => Operation
}

const store = EventStore.EventStore
const stream = (aggregateId: string) => ({ tenantId, domain: "order", aggregateId })
const events = (n: number) => Array.from({ length: n }, (_, i) => ({ type, data: data(i), metadata: metadata() }))

const append = (aggregateId: string, n: number, expected: EventStore.ExpectedVersion, kind: string): Operation => ({
  kind,
  appends: n,
  effect: Effect.flatMap(store, (store) => store.append(stream(aggregateId), events(n), { expected }))
})

const smallStreams: Load = {
  name: "many small streams",
  callers: 32,
  plotted: "append of 2",
  prepare: Effect.void,
  caller: (index) => {
    let n = 0
    return () => append(`${index}/${n++}`, 2, "noStream", "append of 2")
  }
}

const pickHot = zipf(1_000)

const hotStreams: Load = {
  name: "hot streams (Zipf)",
  callers: 32,
  plotted: "append",
  prepare: Effect.void,
  caller: (_, random) => () => append(`hot-${pickHot(random)}`, 1, "any", "append")
}

const streams = 1_000
const streamLength = 20
const pickStream = uniform(streams)

const mixed = (readPercent: number): Load => ({
  name: `${readPercent} % reads, ${100 - readPercent} % appends`,
  callers: 32,
  plotted: readPercent > 50 ? "read" : "append",
  prepare: Effect.flatMap(store, (store) =>
    Effect.forEach(
      Array.from({ length: streams }, (_, i) => i),
      (i) => store.append(stream(`mixed-${i}`), events(streamLength), { expected: "noStream" }),
      { concurrency: 32 }
    )
  ),
  caller: (_, random) => () => {
    const id = `mixed-${pickStream(random)}`
    if (random() * 100 >= readPercent) return append(id, 1, "any", "append")
    return {
      kind: "read",
      appends: 0,
      effect: Effect.flatMap(store, (store) => store.fold(stream(id), 0, (count) => count + 1))
    }
  }
})

const floodWriters = 16
const pageLength = 500

const flood: Load = {
  name: "catch-up in a flood",
  callers: floodWriters + 4,
  plotted: `page of ${pageLength}`,
  prepare: Effect.flatMap(store, (store) =>
    Effect.forEach(
      Array.from({ length: 10 }, (_, i) => i),
      (i) => store.append(stream(`flood-${i}`), events(pageLength), { expected: "noStream" })
    )
  ),
  caller: (index) => {
    if (index < floodWriters) {
      let n = 0
      return () => append(`flood/${index}/${n++}`, 10, "noStream", "append of 10")
    }
    let after = 0
    return () => ({
      kind: `page of ${pageLength}`,
      appends: 0,
      effect: Effect.flatMap(store, (store) =>
        Effect.map(Stream.runCollect(store.feed({ after, limit: pageLength })), (page) => {
          // From the beginning again once it has caught up.
          after = Chunk.size(page) < pageLength ? 0 : Chunk.unsafeLast(page).position
        })
      )
    })
  }
}

const accounts = 100
const accountLength = 120
const accountBytes = 50
const pickAccount = uniform(accounts)
const accountOf = (i: number): Aggregate.Id => ({ ...idOf(accountLength, accountBytes), aggregateId: `account-${i}` })
/** With a snapshot of each, as an application that has run for a while has them. */
const openAccounts = Effect.gen(function* () {
  const [events, snapshots] = [yield* store, yield* SnapshotStore.SnapshotStore]
  const open = (id: Aggregate.Id) =>
    events
      .append(streamOfAccount(id), eventsAfter(0, accountLength, accountBytes), { expected: "noStream" })
      .pipe(Effect.zipRight(Aggregate.load(Saving, id)), Effect.zipRight(snapshots.flush(streamOfAccount(id))))
  yield* Effect.forEach(
    Array.from({ length: accounts }, (_, i) => accountOf(i)),
    open,
    { concurrency: 8 }
  )
})
const deposit = (random: Random) =>
  Aggregate.execute(Account, accountOf(pickAccount(random)), () => [
    { _tag: "Deposited" as const, amount: 1, note: "n".repeat(accountBytes) }
  ])

const aggregates: Load = {
  name: "aggregates",
  callers: 8,
  plotted: "execute",
  prepare: openAccounts,
  caller: (_, random) => () =>
    random() < 0.5
      ? { kind: "load", appends: 0, effect: Aggregate.load(Account, accountOf(pickAccount(random))) }
      : { kind: "execute", appends: 1, effect: deposit(random) }
}

const Done = Schema.Struct({ version: Schema.Number })

const commands: Load = {
  name: "commands",
  callers: 16,
  plotted: "execute a command",
  prepare: openAccounts,
  caller: (index, random) => {
    let n = 0
    return () => ({
      kind: "execute a command",
      appends: 1,
      effect: Effect.flatMap(CommandStore.CommandStore, (store) =>
        store.execute(
          { id: commandId(index, n++), tenantId, domain: "account", type: "Deposit", data: { amount: 1 } },
          Effect.map(deposit(random), ({ version }) => ({ version })),
          { success: Done }
        )
      )
    })
  }
}

const commandId = (caller: number, n: number): string =>
  `00000000-0000-4000-8000-${caller.toString(16).padStart(4, "0")}${n.toString(16).padStart(8, "0")}`

export const loads: ReadonlyArray<Load> = [smallStreams, hotStreams, mixed(70), mixed(30), flood, aggregates, commands]
