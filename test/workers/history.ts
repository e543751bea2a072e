/**
 * What workers report, what the store holds, and whether the two agree. A check answers with the violations that it
 * found, so a test expects none. Nothing here touches a store but `catchUp`.
 */
import { Effect, Stream } from "effect"
import { EventStore } from "effect-stores"

/** One stream's share of an acknowledged append; `version` is that of its last event. */
export interface Write {
  readonly stream: string
  readonly version: number
  readonly ids: ReadonlyArray<string>
}

/** Microseconds of the clock that all processes of the machine share and that nobody sets. */
export const now = (): number => Number(process.hrtime.bigint() / 1000n)

/** When an operation was begun and when its answer was there, as `now` counts. */
export interface Interval {
  readonly start: number
  readonly end: number
}

export interface Acknowledged extends Interval {
  readonly writes: ReadonlyArray<Write>
  readonly guards: ReadonlyArray<{ readonly stream: string; readonly expected: number }>
}

export interface Refused extends Interval {
  readonly conflict: { readonly stream: string; readonly expected: number; readonly actual: number }
}

export type Line = Acknowledged | Refused | { readonly blockedMs: number } | { readonly failure: string }

interface Batch {
  readonly size: number
  found: number
}

interface StoredStream {
  /** Of all its events, in order of version. */
  readonly ids: Array<string>
  /** Where its last event stands in which batch. */
  last: { readonly batch: string; readonly place: number } | undefined
}

/** What was read of a store, as far as it was read. */
export interface Stored {
  readonly streams: Map<string, StoredStream>
  readonly batches: Map<string, Batch>
  readonly violations: Array<string>
  events: number
  position: number
}

export const nothingStored = (): Stored => ({
  streams: new Map(),
  batches: new Map(),
  violations: [],
  events: 0,
  position: 0
})

/** The data of an event follows from its id, so that whoever reads it knows what it must be. */
export const payloadOf = (id: string): { readonly of: string; readonly text: string } => ({
  of: id,
  text: `"\\é😀${id.repeat(Number.parseInt(id.slice(0, 1), 16))}`
})

/** Reads on from where `stored` ends. */
export const catchUp = (stored: Stored) =>
  Effect.flatMap(EventStore.EventStore, (store) =>
    Stream.runForEach(store.feed({ after: stored.position }), (event) => Effect.sync(() => observe(stored, event)))
  )

/** Takes in the next event of the feed: positions grow, streams are gapless from version 1, content is intact. */
export const observe = (stored: Stored, event: EventStore.Event): void => {
  const { aggregateId, id, metadata, position, version } = event
  const { batches, streams, violations } = stored
  const stream = streams.get(aggregateId) ?? { ids: [], last: undefined }
  streams.set(aggregateId, stream)
  stream.ids.push(id)
  if (version !== stream.ids.length)
    violations.push(`${aggregateId}: ${version} stands where ${stream.ids.length} should`)
  if (position <= stored.position) violations.push(`position ${position} comes after ${stored.position}`)
  if (JSON.stringify(event.data) !== JSON.stringify(payloadOf(id))) violations.push(`event ${id} has other data`)
  const name = String(metadata.batch)
  const place = Number(metadata.place)
  if (place > 0 && (stream.last?.batch !== name || stream.last.place !== place - 1)) {
    violations.push(`${aggregateId}@${version}: event ${place} of batch ${name} is not behind the one before`)
  }
  stream.last = { batch: name, place }
  const batch = batches.get(name) ?? { size: Number(metadata.size), found: 0 }
  batches.set(name, batch)
  batch.found++
  stored.events++
  stored.position = position
}

/** Every acknowledged append is where its answer said, and no batch is there in part. */
export const lost = (stored: Stored, acknowledged: ReadonlyArray<Acknowledged>): ReadonlyArray<string> => {
  const violations = [...stored.violations]
  for (const [name, { found, size }] of stored.batches) {
    if (found !== size) violations.push(`batch ${name}: ${found} of ${size} events`)
  }
  for (const { writes } of acknowledged) {
    for (const { ids, stream, version } of writes) {
      const there = stored.streams.get(stream)?.ids.slice(version - ids.length, version) ?? []
      if (there.length !== ids.length || there.some((id, n) => id !== ids[n])) {
        violations.push(`${stream}@${version}: an acknowledged append of ${ids.length} events is not there`)
      }
    }
  }
  return violations
}

/**
 * Whether a history of appends at exact versions, all answers of which are known, can have happened one after another.
 *
 * 1. Every version of every stream has exactly one winner, and the store holds nothing else.
 * 2. An append that was answered before another began stands before it in their stream.
 * 3. The appends, and the versions that their guards saw, have an order that puts each guarded append between the one
 *    that wrote the guarded version and the one that wrote the next.
 * 4. A refused append expected a version that was there, and the version that it was told was the stream's at some
 *    moment between its beginning and its answer.
 */
export const contradictions = (
  stored: Stored,
  acknowledged: ReadonlyArray<Acknowledged>,
  refused: ReadonlyArray<Refused>
): ReadonlyArray<string> => {
  const violations: Array<string> = []
  const streams = new Map<
    string,
    Array<{ readonly from: number; readonly to: number; readonly append: Acknowledged }>
  >()
  for (const append of acknowledged) {
    for (const { ids, stream, version } of append.writes) {
      const winners = streams.get(stream) ?? []
      streams.set(stream, winners)
      winners.push({ from: version - ids.length, to: version, append })
    }
  }

  for (const [stream, winners] of streams) {
    winners.sort((a, b) => a.from - b.from)
    let version = 0
    let begun = 0
    for (const { append, from, to } of winners) {
      if (from !== version) violations.push(`${stream}: an append won ${from + 1} to ${to} when ${version} were won`)
      if (append.end < begun) violations.push(`${stream}@${to}: was answered before one that stands before it began`)
      version = to
      begun = Math.max(begun, append.start)
    }
  }
  for (const [stream, { ids }] of stored.streams) {
    const won = streams.get(stream)?.at(-1)?.to ?? 0
    if (won !== ids.length) violations.push(`${stream}: ${won} versions were won, ${ids.length} are stored`)
  }

  /** The append after which the stream was at the version, and the one that ended that; undefined if it never was. */
  const around = (stream: string, version: number) => {
    const winners = streams.get(stream) ?? []
    const next = winners.findIndex(({ from }) => from >= version)
    const before = winners.at(next === -1 ? winners.length - 1 : next - 1)
    if (version === 0) return { before: undefined, next: winners[0]?.append }
    if (next === 0 || before?.to !== version) return undefined
    return { before: before.append, next: next === -1 ? undefined : winners[next]?.append }
  }

  const followers = new Map<Acknowledged, Set<Acknowledged>>(acknowledged.map((append) => [append, new Set()]))
  const follows = (before: Acknowledged | undefined, next: Acknowledged | undefined): void => {
    if (before !== undefined && next !== undefined && before !== next) followers.get(before)?.add(next)
  }
  for (const winners of streams.values()) {
    for (const [n, { append }] of winners.entries()) follows(winners[n - 1]?.append, append)
  }
  for (const append of acknowledged) {
    for (const { expected, stream } of append.guards) {
      const held = around(stream, expected)
      if (held === undefined) violations.push(`a guard held at ${stream}@${expected}, which never was`)
      follows(held?.before, append)
      follows(append, held?.next)
    }
  }
  const circle = appendsInCircles(followers)
  if (circle > 0) violations.push(`no order in which all guards hold: ${circle} appends wait for each other`)

  for (const { conflict, end, start } of refused) {
    const { actual, expected, stream } = conflict
    const place = `${stream}: a conflict of ${expected} with ${actual}`
    const told = around(stream, actual)
    if (actual <= expected) violations.push(`${place}: not greater`)
    if (around(stream, expected) === undefined) violations.push(`${place}: ${expected} never was`)
    if (told === undefined) violations.push(`${place}: ${actual} never was`)
    else if ((told.before?.start ?? 0) > end) violations.push(`${place}: ${actual} was not yet`)
    else if ((told.next?.end ?? Number.POSITIVE_INFINITY) < start) violations.push(`${place}: ${actual} was over`)
  }
  return violations
}

/** How many are left when, again and again, those that follow nobody are taken away: circles, and what is behind them. */
const appendsInCircles = (followers: ReadonlyMap<Acknowledged, ReadonlySet<Acknowledged>>): number => {
  const awaited = new Map<Acknowledged, number>()
  for (const next of followers.values()) {
    for (const append of next) awaited.set(append, (awaited.get(append) ?? 0) + 1)
  }
  const ready = [...followers.keys()].filter((append) => !awaited.has(append))
  let taken = 0
  for (let append = ready.pop(); append !== undefined; append = ready.pop()) {
    taken++
    for (const next of followers.get(append) ?? []) {
      const left = (awaited.get(next) ?? 0) - 1
      awaited.set(next, left)
      if (left === 0) ready.push(next)
    }
  }
  return followers.size - taken
}
