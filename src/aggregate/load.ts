/**
 * How an aggregate is loaded: finding a baseline, folding what came after it, telling whether the baseline belongs to
 * the stream, and leaving a snapshot behind. What may go wrong with a snapshot ends here.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import type * as Option from "effect/Option"
import type { Aggregate, LoadError, Loaded } from "../Aggregate.js"
import {
  type Event,
  EventDecodeError,
  EventStore,
  type ReadError as EventStoreReadError,
  type EventStoreShape,
  type StreamId
} from "../EventStore.js"
import { JsonText } from "../internal/encoding.js"
import { pageBegins } from "../internal/pages.js"
import { taggedPayload } from "../internal/taggedPayload.js"
import * as Telemetry from "../internal/telemetry.js"
import * as Json from "../Json.js"
import * as SnapshotPolicy from "../SnapshotPolicy.js"
import { type NewSnapshot, type Snapshot, SnapshotStore, type SnapshotStoreShape } from "../SnapshotStore.js"
import { streamName } from "../StreamId.js"
import * as Uuid from "../Uuid.js"
import * as lookup from "./lookup.js"
import { TypeId } from "./typeId.js"

interface Baseline<S> {
  readonly state: S
  readonly version: number
  /** Of its last event, and of the revision that the events up to it were of. */
  readonly mark: string
}

/**
 * Tells an event from any other that may come to stand at its version: ids may be given by callers, and positions may
 * come again after a rollback or a restore, but hardly all of this. And the events up to it from those of another
 * revision of the stream: each change of one of them makes a new one.
 */
const markOf = ({ createdAt, data, id, metadata, position, type }: Event, revision: string | null): string => {
  const parts = [position, createdAt.epochMillis, type, JSON.stringify(data), JSON.stringify(metadata)]
  return Uuid.derived(id, revision === null ? parts : [...parts, revision])
}

/** One event, and the revision of the stream that it was read with. */
class Sighting {
  revision: string | null = null
  event: Event | undefined;

  [pageBegins](revision: string | null): void {
    this.revision = revision
  }

  see(event: Event): this {
    this.event = event
    return this
  }
}

/** Whether the event is still where it was read, in a stream of the same revision. */
const stands = (
  { events, stream }: { readonly events: EventStoreShape; readonly stream: StreamId },
  event: Event,
  revision: string | null
): Effect.Effect<boolean, EventStoreReadError> =>
  Effect.map(
    Effect.suspend(() =>
      events.fold(stream, new Sighting(), (sighting, found) => sighting.see(found), {
        fromVersion: event.version,
        toVersion: event.version
      })
    ),
    ({ event: found, revision: now }) => found !== undefined && markOf(found, now) === markOf(event, revision)
  )

/**
 * A young aggregate has no snapshot; where so many events had to be read for want of one, it is missed. Reading them
 * takes as long as waiting for a slow store.
 */
const missedFromEvents = 1_000

/** Why a snapshot was not used. */
interface Rejection {
  readonly outcome: "corrupt" | "otherSchema" | "otherStream" | "unavailable"
  /** Undefined when it has been said. */
  readonly why: string | undefined
  /** The version that it claims, infinite when its claims are worth nothing. */
  readonly version: number
}

type Found<S> =
  | { readonly _tag: "Missing" }
  | { readonly _tag: "Baseline"; readonly baseline: Baseline<S> }
  | { readonly _tag: "Rejected"; readonly rejection: Rejection }

/** The state while it is folded. One object for all events of a load. */
class Replay<S, E extends { readonly _tag: string }> {
  state: S
  version: number
  events = 0
  failure: EventDecodeError | undefined
  /** The first event that was read: the baseline's last, or the stream's first. */
  first: Event | undefined
  last: Event | undefined
  /** Of the stream when the first page was read. */
  revision: string | null = null
  private other = false
  private pages = 0

  constructor(
    private readonly definition: Aggregate<S, E>,
    readonly baseline: Baseline<S> | undefined
  ) {
    this.state = baseline === undefined ? definition.initial : baseline.state
    this.version = baseline === undefined ? 0 : baseline.version
  }

  [pageBegins](revision: string | null): void {
    if (this.pages++ === 0) this.revision = revision
  }

  /** Whether all was read at one moment; a store that does not tell of its pages may have read at several. */
  get isOfOneMoment(): boolean {
    return this.pages === 1
  }

  /** Whether the baseline is of this history of the stream: the event that it ends with is the first that is read. */
  get continuesBaseline(): boolean {
    return this.baseline === undefined || (this.first !== undefined && !this.other)
  }

  take(event: Event): this {
    if (this.failure !== undefined || this.other) return this
    this.last = event
    if (this.first === undefined) {
      this.first = event
      if (this.baseline !== undefined) {
        this.other = markOf(event, this.revision) !== this.baseline.mark
        return this
      }
    }
    const decoded: Either.Either<E, unknown> = this.definition[TypeId].decodeEvent(taggedPayload(event))
    if (decoded._tag === "Left") {
      this.failure = EventDecodeError.of(event, decoded.left)
      return this
    }
    this.state = this.definition.evolve(this.state, decoded.right)
    this.version = event.version
    this.events++
    return this
  }
}

/** What the steps of one load have in common. */
interface Loader<S, E extends { readonly _tag: string }> {
  readonly definition: Aggregate<S, E>
  readonly events: EventStoreShape
  readonly stream: StreamId
  /** Undefined: the present one. */
  readonly atVersion: number | undefined
}

/** Loads the present state, and saves a snapshot if one is due. */
export const load = <S, E extends { readonly _tag: string }>(
  definition: Aggregate<S, E>,
  stream: StreamId
): Effect.Effect<Loaded<S>, LoadError, EventStore> => source(definition, stream, undefined)

/** Loads the state at a version, or at the last version if that is smaller. */
export const loadAt = <S, E extends { readonly _tag: string }>(
  definition: Aggregate<S, E>,
  stream: StreamId,
  version: number
): Effect.Effect<Loaded<S>, LoadError, EventStore> =>
  version === 0
    ? Effect.succeed({ state: definition.initial, version: 0, snapshotVersion: 0, replayed: 0 })
    : source(definition, stream, version)

const source = <S, E extends { readonly _tag: string }>(
  definition: Aggregate<S, E>,
  stream: StreamId,
  atVersion: number | undefined
): Effect.Effect<Loaded<S>, LoadError, EventStore> =>
  Telemetry.composed("Aggregate.load", (span) =>
    Effect.flatMap(EventStore, (events) =>
      Effect.flatMap(Effect.serviceOption(SnapshotStore), (snapshots) => {
        Telemetry.describe(span, { domain: stream.domain })
        const loader = { definition, events, stream, atVersion }
        return Effect.map(
          snapshots._tag === "None" || definition.snapshots === SnapshotPolicy.never
            ? replay(loader)
            : withSnapshots(loader, snapshots.value),
          (replay) => {
            const loaded = loadedOf(replay)
            const { replayed, snapshotVersion, version } = loaded
            Telemetry.describe(span, { events: replayed, version, snapshot_version: snapshotVersion })
            return loaded
          }
        )
      })
    )
  )

/** Finds a baseline, replays what came after it, and leaves a snapshot behind if one is due. */
const withSnapshots = <S, E extends { readonly _tag: string }>(
  loader: Loader<S, E>,
  store: SnapshotStoreShape
): Effect.Effect<Replay<S, E>, LoadError> =>
  Effect.gen(function* () {
    const found = yield* find(loader, store)
    const clock = yield* Effect.clock
    const startNanos = clock.unsafeCurrentTimeNanos()
    const { rejection, replayed } = yield* replayFound(loader, found)
    const duration = Duration.nanos(clock.unsafeCurrentTimeNanos() - startNanos)
    const isMissing = rejection === undefined && replayed.baseline === undefined
    count(rejection?.outcome ?? (isMissing ? "missing" : "hit"))
    if (rejection?.why !== undefined) yield* warn(`the snapshot of ${streamName(loader.stream)} ${rejection.why}`)
    else if (isMissing && replayed.events >= missedFromEvents)
      yield* warn(`${streamName(loader.stream)} has no snapshot`)
    if (loader.atVersion === undefined && (yield* isDue(loader.definition, replayed, rejection, duration)))
      yield* leaveSnapshot(loader, store, replayed, rejection)
    return replayed
  })

const find = <S, E extends { readonly _tag: string }>(
  { atVersion, definition, events, stream }: Loader<S, E>,
  store: SnapshotStoreShape
): Effect.Effect<Found<S>, LoadError> => {
  const isLong = Effect.map(
    events.version(stream),
    (version) => Math.min(version, atVersion ?? version) >= missedFromEvents
  )
  const answer = lookup.latest(store, stream, { atMost: atVersion, timeoutMs: definition.snapshotTimeoutMs, isLong })
  return Effect.map(answer, (answer) => {
    if (answer._tag === "Unavailable") return rejected("unavailable", answer.why)
    const { exit } = answer
    if (Exit.isSuccess(exit)) return foundOf(definition, exit.value)
    const failure = Cause.failureOption(exit.cause)
    if (failure._tag === "Some" && failure.value._tag === "SnapshotCorrupt")
      return rejected("corrupt", failure.value.why)
    // A bug of the store's does not make the events unreadable; the warning says it.
    const why = failure._tag === "Some" ? failure.value.message : Cause.pretty(exit.cause)
    return rejected("unavailable", `could not be read: ${why}`)
  })
}

const foundOf = <S, E extends { readonly _tag: string }>(
  { [TypeId]: { decodeState }, schemaVersion }: Aggregate<S, E>,
  found: Option.Option<Snapshot>
): Found<S> => {
  if (found._tag === "None") return { _tag: "Missing" }
  const snapshot = found.value
  if (snapshot.schemaVersion !== schemaVersion) {
    const why = `has the form ${snapshot.schemaVersion}, not ${schemaVersion}`
    return rejected("otherSchema", why, snapshot.version)
  }
  const state = attempted(() => decodeState(snapshot.state))
  if (state._tag === "Left") return rejected("otherSchema", `does not fit the schema: ${state.left}`)
  const baseline = { state: state.right, version: snapshot.version, mark: snapshot.lastEventMark }
  return { _tag: "Baseline", baseline }
}

/** A transformation of the user's may not be ready for what an older one has written. */
const attempted = <A>(decode: () => Either.Either<A, unknown>): Either.Either<A, unknown> => {
  try {
    return decode()
  } catch (error) {
    return Either.left(error)
  }
}

const rejected = (
  outcome: Rejection["outcome"],
  why: string | undefined,
  version = Number.POSITIVE_INFINITY
): Found<never> => ({
  _tag: "Rejected",
  rejection: { outcome, why, version }
})

/** A stream is rarely changed, and never at each load; an `evolve` that changes events would look the same. */
const wholeTriesMax = 5

const replay = <S, E extends { readonly _tag: string }>(
  loader: Loader<S, E>,
  baseline?: Baseline<S>,
  tries = wholeTriesMax
): Effect.Effect<Replay<S, E>, LoadError> => {
  const { atVersion, definition, events, stream } = loader
  const folded = Effect.suspend(() =>
    events.fold(stream, new Replay(definition, baseline), (replay, event) => replay.take(event), {
      // The baseline's last event is read again, to see that it is there.
      fromVersion: baseline?.version ?? 1,
      toVersion: atVersion
    })
  )
  return Effect.flatMap(folded, (replayed): Effect.Effect<Replay<S, E>, LoadError> => {
    replayedEvents.unsafeUpdate(replayed.events, [])
    const done = replayed.failure === undefined ? Effect.succeed(replayed) : Effect.fail(replayed.failure)
    if (replayed.first === undefined || replayed.isOfOneMoment || tries === 0) return done
    // Read in several pages, so the stream may have been changed, or deleted and started again, in between.
    return Effect.flatMap(stands(loader, replayed.first, replayed.revision), (whole) =>
      whole ? done : replay(loader, baseline, tries - 1)
    )
  })
}

const replayFound = <S, E extends { readonly _tag: string }>(
  loader: Loader<S, E>,
  found: Found<S>
): Effect.Effect<{ readonly replayed: Replay<S, E>; readonly rejection: Rejection | undefined }, LoadError> => {
  const fromFirst = (rejection: Rejection | undefined) =>
    Effect.map(replay(loader), (replayed) => ({ replayed, rejection }))
  if (found._tag === "Missing") return fromFirst(undefined)
  if (found._tag === "Rejected") return fromFirst(found.rejection)
  const { version } = found.baseline
  return Effect.flatMap(replay(loader, found.baseline), (replayed) =>
    replayed.continuesBaseline
      ? Effect.succeed({ replayed, rejection: undefined })
      : fromFirst({
          outcome: "otherStream",
          why: `ends at version ${version} of another history: the stream was changed, or started again`,
          version: Number.POSITIVE_INFINITY
        })
  )
}

const leaveSnapshot = <S, E extends { readonly _tag: string }>(
  loader: Loader<S, E>,
  store: SnapshotStoreShape,
  replayed: Replay<S, E>,
  rejection: Rejection | undefined
): Effect.Effect<void> => {
  const encode = Effect.suspend(() => loader.definition[TypeId].encodeState(replayed.state))
  // Now, because the caller may do with the state what they like, and as text, because a Schema may give parts of it.
  const encoded = Effect.exit(
    Effect.flatMap(encode, (state) => Effect.map(Json.encode(state, "state"), (text) => new JsonText(text)))
  )
  const replace = rejection !== undefined && rejection.version > replayed.version
  return Effect.flatMap(encoded, (state) =>
    store.saveInBackground(loader.stream, snapshotOf(loader, replayed, state), { replace })
  )
}

/**
 * What to save of a replay, for the background: only if what was read is in the stream for everybody. A transaction
 * that was rolled back, or a stream that was changed, or deleted and started again, must leave nothing behind. What is
 * changed after this look has another mark than the one that is saved.
 */
const snapshotOf = <S, E extends { readonly _tag: string }>(
  loader: Loader<S, E>,
  { first, last, revision, version }: Replay<S, E>,
  encoded: Effect.Effect<JsonText, unknown>
): Effect.Effect<NewSnapshot | undefined, unknown> => {
  if (first === undefined || last === undefined || version === 0) return Effect.succeed(undefined)
  return Effect.gen(function* () {
    for (const event of new Set([first, last])) {
      if (!(yield* stands(loader, event, revision))) return undefined
    }
    const { schemaVersion } = loader.definition
    return { version, lastEventMark: markOf(last, revision), schemaVersion, state: yield* encoded }
  })
}

const isDue = <S, E extends { readonly _tag: string }>(
  { snapshots }: Aggregate<S, E>,
  { events, state, version }: Replay<S, E>,
  rejection: Rejection | undefined,
  duration: Duration.Duration
): Effect.Effect<boolean> => {
  // What is of no use would be found again by every load. A store that cannot be reached is left in peace.
  if (rejection !== undefined) return Effect.succeed(rejection.outcome !== "unavailable")
  if (events === 0) return Effect.succeed(false)
  try {
    return Effect.succeed(snapshots({ state, version, events, duration }))
  } catch (error) {
    return Effect.as(Effect.logWarning("a snapshot policy threw, so no snapshot is saved", error), false)
  }
}

const loadedOf = <S, E extends { readonly _tag: string }>(replay: Replay<S, E>): Loaded<S> => ({
  state: replay.state,
  version: replay.version,
  snapshotVersion: replay.baseline?.version ?? 0,
  replayed: replay.events
})

const warn = (what: string): Effect.Effect<void> => Effect.logWarning(`${what}: all its events were read`)

const usedTotal = MetricKey.counter("effect_stores_snapshots_used", {
  description: "Loads of aggregates that looked for a snapshot, by what they found",
  incremental: true
})

const used = new Map<string, Metric.Metric.Counter<number>>()

const count = (outcome: Rejection["outcome"] | "hit" | "missing"): void => {
  let counter = used.get(outcome)
  if (counter === undefined) {
    counter = Metric.fromMetricKey(MetricKey.taggedWithLabels(usedTotal, [MetricLabel.make("outcome", outcome)]))
    used.set(outcome, counter)
  }
  counter.unsafeUpdate(1, [])
}

const replayedEvents = Metric.histogram(
  "effect_stores_events_replayed",
  MetricBoundaries.exponential({ start: 1, factor: 10, count: 7 }),
  "Events that loads of aggregates folded"
)
