/**
 * The EventStore's port, sealed: data and metadata of an event are bound to its stream, version, id and type. The
 * version is known before an event is sealed, so every append goes to the port with an exact one.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { CryptoError, KeyCheckFailed } from "../CryptoError.js"
import { type InvalidInput, type StoreFailure, StoreUnavailable } from "../Errors.js"
import {
  type AppendOutcome,
  anyEvent,
  type Encoded,
  type EncodedAppend,
  type EncodedEvent,
  type EncodedNewEvent
} from "../eventStore/EventStoreEncoded.js"
import { type Page, pagedStream, rangePages } from "../internal/pages.js"
import { type StreamId, streamKey, streamName } from "../StreamId.js"
import { ContextWriter } from "./formats/context.js"
import type { FindKey } from "./formats/envelope.js"
import { inTurns, type Steps } from "./formats/steps.js"
import type { Key } from "./keys/key.js"
import {
  type Cipher,
  isError,
  keyFor,
  keysFor,
  openAll,
  openedInTurns,
  openText,
  prepare,
  refusedPlain,
  sealing,
  sealText
} from "./sealer.js"
import type { Rules } from "./subjects/rules.js"
import { Turns } from "./turns.js"
import { type RowCodec, rowRecord, type Upkeep, upkeepOf } from "./upkeep.js"

/** How often an append under `any` is sent again because others were faster, with pauses from the fourth time on. */
const triesMax = 60
const pauseMaxMs = 50

/**
 * Last versions that were seen, for appends under `any`: a guess that saves a question, and is corrected by a
 * conflict.
 */
const versionsMax = 10_000

/** No version of a stream: an append that expects it changes nothing, and says what there is. */
const noVersion = Number.MAX_SAFE_INTEGER

/** An event's metadata is seldom anything: then none is stored, and the context of its data says so. */
const noMetadata = "{}"

type KeyOf = (event: EncodedNewEvent) => Key
type Payloads = Pick<EncodedEvent, "data" | "metadata" | "keyId">
type Place = StreamId & Pick<EncodedEvent, "id" | "version" | "type">

/** How the payloads of events are sealed and opened, for the port and for who works on stored rows. */
export const eventCodec = (cipher: Cipher, storeId: string) => {
  let last: { readonly stream: StreamId; readonly bytes: Buffer } | undefined

  /** Of a page or an append most events have the stream of the one before. */
  const prefixOf = (stream: StreamId): Buffer => {
    const { aggregateId, domain, tenantId } = stream
    const known = last?.stream
    if (
      last === undefined ||
      known?.aggregateId !== aggregateId ||
      known.domain !== domain ||
      known.tenantId !== tenantId
    ) {
      const writer = new ContextWriter()
        .text("kind", "event")
        .text("store", storeId)
        .text("tenant", tenantId)
        .text("domain", domain)
        .text("id", aggregateId)
      last = { stream: { tenantId, domain, aggregateId }, bytes: Buffer.from(writer.bytes) }
    }
    return last.bytes
  }

  const context = (place: Place, field: "data" | "metadata", hasMetadata: boolean): Buffer => {
    const writer = new ContextWriter(prefixOf(place))
      .number("version", place.version)
      .text("event", place.id)
      .text("type", place.type)
      .text("field", field)
    return (field === "data" ? writer.number("metadata", hasMetadata ? 1 : 0) : writer).bytes
  }

  const named = (place: Place, field: "data" | "metadata") => () =>
    `the ${field} of event ${place.id} (${streamName(place)}, version ${place.version})`

  function* seal(key: Key | null, place: Place, data: string, metadata: string): Steps<Payloads> {
    if (key === null) return { data, metadata, keyId: null }
    const hasMetadata = metadata !== noMetadata
    return {
      data: yield* sealText(key, context(place, "data", hasMetadata), data),
      metadata: hasMetadata ? yield* sealText(key, context(place, "metadata", true), metadata) : "",
      keyId: key.id
    }
  }

  function* openField(row: EncodedEvent, field: "data" | "metadata", find: FindKey): Steps<string | CryptoError> {
    if (row.keyId === null) return refusedPlain(cipher, row.position, "events", named(row, field)) ?? row[field]
    if (field === "metadata" && row.metadata === "") return noMetadata
    return yield* openText(find, row.keyId, context(row, field, row.metadata !== ""), row[field], named(row, field))
  }

  function* open(row: EncodedEvent, find: FindKey): Steps<EncodedEvent | CryptoError> {
    const data = yield* openField(row, "data", find)
    if (typeof data !== "string") return data
    const metadata = yield* openField(row, "metadata", find)
    return typeof metadata === "string" ? { ...row, data, metadata, keyId: null } : metadata
  }

  /** As readers see it: also where it was forgotten, and something else is declared for it. */
  function* openRow(row: EncodedEvent, find: FindKey): Steps<EncodedEvent | CryptoError> {
    const opened = yield* open(row, find)
    const isForgotten = isError(opened) && opened._tag === "Shredded"
    return (isForgotten ? cipher.subjects?.replacements.event(row) : undefined) ?? opened
  }

  const openRows = (rows: ReadonlyArray<EncodedEvent>): Effect.Effect<ReadonlyArray<EncodedEvent>, CryptoError> =>
    openAll(cipher, rows, addKeyId, openRow)

  return { seal, openField, open, openRows }
}

/** An event to append, with its stream: what the rules look at. */
type Written = StreamId & EncodedNewEvent

const subjectOf = (rules: Rules, event: StreamId & Pick<EncodedEvent, "type" | "data" | "metadata">) =>
  rules.event(event)

const placeOf = (event: StreamId & Pick<EncodedEvent, "id">): string => `the event ${event.id} (${streamName(event)})`

const addKeyId = (row: EncodedEvent, add: (id: string) => void): void => {
  if (row.keyId !== null) add(row.keyId)
}

export const seal = (
  cipher: Cipher,
  port: Encoded
): Effect.Effect<Encoded, InvalidInput | StoreFailure | KeyCheckFailed> =>
  sealing(
    "EventStore",
    port,
    Effect.map(prepare(cipher, "EventStore", port.note), (storeId) => overPort(cipher, port, storeId))
  )

const overPort = (cipher: Cipher, port: Encoded, storeId: string): readonly [Encoded, Upkeep] => {
  const codec = eventCodec(cipher, storeId)
  const turns = new Turns()
  const versions = new Map<string, number>()

  const open = <P extends Page<EncodedEvent>, E>(page: Effect.Effect<P, E>) =>
    Effect.flatMap(page, (page) => Effect.map(codec.openRows(page.items), (items) => ({ ...page, items })))

  const openOne = <E>(
    row: Effect.Effect<EncodedEvent | null, E>
  ): Effect.Effect<EncodedEvent | null, E | CryptoError> =>
    Effect.flatMap(row, (row) =>
      row === null ? Effect.succeed(null) : Effect.map(codec.openRows([row]), ([opened]) => opened as EncodedEvent)
    )

  const seen = (stream: StreamId, version: number): void => {
    const key = streamKey(stream)
    versions.delete(key)
    versions.set(key, version)
    if (versions.size > versionsMax) versions.delete(versions.keys().next().value as string)
  }

  /** The version that an append is sealed for. */
  const baseOf = ({ expected, stream }: EncodedAppend): Effect.Effect<number, StoreFailure> => {
    if (typeof expected === "number") return Effect.succeed(expected)
    if (expected === "noStream") return Effect.succeed(0)
    const guess = versions.get(streamKey(stream))
    return guess === undefined ? port.version(stream) : Effect.succeed(guess)
  }

  function* sealedAppend(append: EncodedAppend, base: number, keyOf: KeyOf): Steps<EncodedAppend> {
    const { events, expected, stream } = append
    const sealed: Array<EncodedNewEvent> = []
    for (const event of events) {
      const place = { ...stream, id: event.id, type: event.type, version: base + sealed.length + 1 }
      sealed.push({ ...event, ...(yield* codec.seal(keyOf(event), place, event.data, event.metadata)) })
    }
    return {
      stream,
      expected: base > 0 || expected === "any" ? base : expected === "streamExists" ? noVersion : expected,
      events: sealed
    }
  }

  function* sealedAppends(
    appends: ReadonlyArray<EncodedAppend>,
    bases: ReadonlyArray<number>,
    keyOf: KeyOf
  ): Steps<ReadonlyArray<EncodedAppend>> {
    const sealed: Array<EncodedAppend> = []
    for (const append of appends) sealed.push(yield* sealedAppend(append, bases[sealed.length] as number, keyOf))
    return sealed
  }

  /**
   * 1. Finds out the version of each stream, unless the append says it.
   * 2. Seals for the versions that follow, and appends there exactly.
   * 3. If another append was faster, and this one did not care, goes back to 2 with the version that the conflict told.
   */
  const appendSealed = (
    appends: ReadonlyArray<EncodedAppend>,
    guards: Parameters<Encoded["append"]>[1],
    keyOf: KeyOf,
    tries: number
  ): Effect.Effect<AppendOutcome, StoreFailure> =>
    Effect.flatMap(Effect.forEach(appends, baseOf), (bases) =>
      Effect.flatMap(
        Effect.flatMap(
          inTurns(() => sealedAppends(appends, bases, keyOf)),
          (sealed) => port.append(sealed, guards)
        ),
        (outcome): Effect.Effect<AppendOutcome, StoreFailure> => {
          if (outcome._tag === "Exists")
            return Effect.map(codec.openRows(outcome.events), (events) => ({ ...outcome, events }))
          if (outcome._tag === "Appended") {
            for (const [i, { stream }] of appends.entries())
              seen(stream, (outcome.results[i] as { readonly version: number }).version)
            return Effect.succeed(outcome)
          }
          const loser = appends[outcome.index]
          const { actual } = outcome
          if (loser === undefined) return Effect.succeed(outcome)
          seen(loser.stream, actual)
          const goesOn = loser.expected === "any" || (loser.expected === "streamExists" && actual > 0)
          if (!goesOn) return Effect.succeed(outcome)
          if (tries === triesMax) return Effect.fail(overtaken(loser.stream))
          return Effect.zipRight(
            tries < 3 ? Effect.void : pause(tries),
            Effect.suspend(() => appendSealed(appends, guards, keyOf, tries + 1))
          )
        }
      )
    )

  /** The keys of the events of some appends; null where they stay plain. */
  const keysOf = (appends: ReadonlyArray<EncodedAppend>): Effect.Effect<KeyOf | null, StoreFailure> => {
    const streams = new Map<EncodedNewEvent, StreamId>()
    // Nobody asks whose they are where there are no rules.
    if (cipher.subjects !== undefined)
      for (const { events, stream } of appends) for (const event of events) streams.set(event, stream)
    const written = (event: EncodedNewEvent): Written => ({ ...event, ...(streams.get(event) as StreamId) })
    return keysFor(
      cipher,
      [...streams.keys()],
      (rules, event) => subjectOf(rules, written(event)),
      (event) => placeOf(written(event))
    )
  }

  const append: Encoded["append"] = (appends, guards) =>
    Effect.flatMap(keysOf(appends), (keyOf) => {
      if (keyOf === null)
        return Effect.flatMap(
          port.append(appends, guards),
          (outcome): Effect.Effect<AppendOutcome, StoreFailure> =>
            outcome._tag === "Exists"
              ? Effect.map(codec.openRows(outcome.events), (events) => ({ ...outcome, events }))
              : Effect.succeed(outcome)
        )
      const open = appends.find(({ expected }) => expected === "any" || expected === "streamExists")
      const whole = appendSealed(appends, guards, keyOf, 0)
      // Of one process they go one after the other, since all but one would be in vain.
      return open === undefined ? whole : turns.after(streamKey(open.stream), whole)
    })

  /** The field that is not replaced: as it is if it may stay, else opened. */
  const kept = (row: EncodedEvent, field: "data" | "metadata"): Effect.Effect<string, CryptoError> =>
    Effect.flatMap(cipher.ring.finding(new Set(row.keyId === null ? [] : [row.keyId])), (find) =>
      openedInTurns(() => codec.openField(row, field, find))
    )

  const replaceRow = (
    row: EncodedEvent,
    {
      changes,
      data,
      metadata,
      revision
    }: {
      readonly data: string
      readonly metadata: string
      readonly changes: boolean
      readonly revision: string | null
    }
  ): Effect.Effect<boolean, StoreFailure> =>
    Effect.flatMap(
      keyFor(
        cipher,
        row.keyId,
        (rules) => subjectOf(rules, { ...row, data, metadata }),
        () => placeOf(row)
      ),
      (key) =>
        Effect.flatMap(
          inTurns(() => codec.seal(key, row, data, metadata)),
          (payloads) => port.replace({ id: row.id, was: row, ...payloads, changes, revision })
        )
    )

  /** Reads the place, since all is bound to it; what is replaced is not opened. */
  const update: Encoded["update"] = (request) =>
    Effect.flatMap(port.get(request.id), (row) => {
      if (row === null) return Effect.succeed(false)
      return Effect.flatMap(
        Effect.all([
          request.data === null ? kept(row, "data") : Effect.succeed(request.data),
          request.metadata === null ? kept(row, "metadata") : Effect.succeed(request.metadata)
        ]),
        ([data, metadata]) =>
          Effect.flatMap(
            replaceRow(row, { data, metadata, changes: request.data !== null, revision: request.revision }),
            // Somebody else has changed it meanwhile, or deleted it.
            (replaced) => (replaced ? Effect.succeed(true) : update(request))
          )
      )
    })

  const replace: Encoded["replace"] = (request) =>
    Effect.flatMap(port.get(request.id), (row) => {
      if (row === null) return Effect.succeed(false)
      return Effect.flatMap(codec.openRows([row]), ([opened]) =>
        opened?.data === request.was.data && opened.metadata === request.was.metadata
          ? replaceRow(row, request)
          : Effect.succeed(false)
      )
    })

  const rows: RowCodec<EncodedEvent> = {
    keyIds: ({ keyId }) => [keyId],
    open: codec.open,
    *seal(key, row) {
      return { ...row, ...(yield* codec.seal(key, row, row.data, row.metadata)) }
    },
    subjectOf,
    payloads: ({ data, metadata }) => [data, metadata],
    replace: (was, { data, keyId, metadata }) =>
      port.replace({ id: was.id, was, data, metadata, keyId, changes: false, revision: null })
  }

  const upkeep = upkeepOf(cipher, {
    store: "EventStore",
    total: Effect.map(port.info, ({ events }) => events),
    records: () =>
      Stream.map(
        pagedStream(
          Effect.flatMap(port.head, (through) =>
            rangePages(
              (range) => port.readFeed({ ...range, filter: anyEvent }),
              { after: 0, through, direction: "forward" as const },
              Number.MAX_SAFE_INTEGER,
              (range, { position }) => ({ ...range, after: position })
            )
          )
        ),
        (row) => {
          const place = `the event ${row.id} (${streamName(row)}, version ${row.version})`
          return rowRecord(cipher, rows, place, rows.keyIds(row), Effect.succeed(row))
        }
      )
  })

  const sealed: Encoded = {
    append,
    readStream: (request) => open(port.readStream(request)),
    version: port.version,
    head: port.head,
    lastPosition: port.lastPosition,
    readFeed: (request) => open(port.readFeed(request)),
    get: (id) => openOne(port.get(id)),
    distinct: port.distinct,
    count: port.count,
    info: Effect.flatMap(port.info, (info) =>
      Effect.map(openOne(Effect.succeed(info.lastEvent)), (lastEvent) => ({ ...info, lastEvent }))
    ),
    update,
    replace,
    deleteStream: port.deleteStream,
    note: port.note,
    reset: port.reset,
    hints: port.hints,
    inTransaction: port.inTransaction
  }
  return [sealed, upkeep]
}

const overtaken = (stream: StreamId): StoreUnavailable =>
  new StoreUnavailable({
    operation: "append",
    retryable: true,
    cause: new Error(`${streamName(stream)} was appended to by others ${triesMax} times in between`)
  })

/** In real time, as the others are. */
const pause = (tries: number): Effect.Effect<void> =>
  Effect.async((resume) => {
    const timer = setTimeout(() => resume(Effect.void), Math.random() * Math.min(pauseMaxMs, 2 ** tries))
    return Effect.sync(() => clearTimeout(timer))
  })
