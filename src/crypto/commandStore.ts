/**
 * The CommandStore's port, sealed: data, metadata and outcome of a command are bound to its id, tenant, domain and
 * type, the outcome to the command's status too.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { CryptoError, KeyCheckFailed, SubjectShredded } from "../CryptoError.js"
import {
  anyCommand,
  type CreateOutcome,
  type Encoded,
  type EncodedCommand,
  type EncodedPayloads
} from "../commandStore/CommandStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import { pagedStream, rangePages } from "../internal/pages.js"
import { ContextWriter } from "./formats/context.js"
import type { FindKey } from "./formats/envelope.js"
import { inTurns, type Steps } from "./formats/steps.js"
import type { Key } from "./keys/key.js"
import {
  type Cipher,
  isError,
  keyFor,
  openAll,
  openedInTurns,
  openText,
  prepare,
  refusedPlain,
  sealing,
  sealText
} from "./sealer.js"
import type { Rules } from "./subjects/rules.js"
import { type RowCodec, rowRecord, type Upkeep, upkeepOf } from "./upkeep.js"

/** Of commands that this process executes, so that the outcome is sealed without reading the command again. */
const placesMax = 10_000

const noMetadata = "{}"

type Place = Pick<EncodedCommand, "id" | "tenantId" | "domain" | "type">
type Field = "data" | "metadata" | "outcome"

/** A command that this process executes, and what it is sealed with. */
interface Begun {
  readonly place: Place
  readonly keyId: string | null
}

/** How the payloads of commands are sealed and opened, for the port and for who works on stored rows. */
export const commandCodec = (cipher: Cipher, storeId: string) => {
  const begun = (place: Place, field: Field): ContextWriter =>
    new ContextWriter()
      .text("kind", "command")
      .text("store", storeId)
      .text("tenant", place.tenantId)
      .text("domain", place.domain)
      .text("id", place.id)
      .text("type", place.type)
      .text("field", field)

  const dataContext = (place: Place, hasMetadata: boolean): Buffer =>
    begun(place, "data").number("metadata", hasMetadata ? 1 : 0).bytes

  const metadataContext = (place: Place): Buffer => begun(place, "metadata").bytes

  const outcomeContext = (place: Place, status: string): Buffer => begun(place, "outcome").text("status", status).bytes

  const named = (place: Place, field: Field) => () =>
    `the ${field} of command ${place.id} (${place.tenantId}/${place.domain}, ${place.type})`

  function* seal(
    key: Key | null,
    place: Place,
    data: string,
    metadata: string
  ): Steps<Pick<EncodedPayloads, "data" | "metadata" | "keyId">> {
    if (key === null) return { data, metadata, keyId: null }
    const hasMetadata = metadata !== noMetadata
    return {
      data: yield* sealText(key, dataContext(place, hasMetadata), data),
      metadata: hasMetadata ? yield* sealText(key, metadataContext(place), metadata) : "",
      keyId: key.id
    }
  }

  function* sealOutcome(
    key: Key | null,
    place: Place,
    status: string,
    outcome: string | null
  ): Steps<Pick<EncodedPayloads, "outcome" | "outcomeKeyId">> {
    return key === null || outcome === null
      ? { outcome, outcomeKeyId: null }
      : { outcome: yield* sealText(key, outcomeContext(place, status), outcome), outcomeKeyId: key.id }
  }

  function* openField(row: EncodedCommand, field: "data" | "metadata", find: FindKey): Steps<string | CryptoError> {
    if (row.keyId === null) return refusedPlain(cipher, row.position, "commands", named(row, field)) ?? row[field]
    if (field === "metadata" && row.metadata === "") return noMetadata
    const context = field === "data" ? dataContext(row, row.metadata !== "") : metadataContext(row)
    return yield* openText(find, row.keyId, context, row[field], named(row, field))
  }

  function* openOutcome(row: EncodedCommand, find: FindKey): Steps<string | null | CryptoError> {
    if (row.outcome === null) return null
    if (row.outcomeKeyId === null)
      return refusedPlain(cipher, row.position, "commands", named(row, "outcome")) ?? row.outcome
    return yield* openText(find, row.outcomeKeyId, outcomeContext(row, row.status), row.outcome, named(row, "outcome"))
  }

  function* open(row: EncodedCommand, find: FindKey): Steps<EncodedCommand | CryptoError> {
    const data = yield* openField(row, "data", find)
    if (typeof data !== "string") return data
    const metadata = yield* openField(row, "metadata", find)
    if (typeof metadata !== "string") return metadata
    const outcome = yield* openOutcome(row, find)
    if (typeof outcome === "object" && outcome !== null) return outcome
    return { ...row, data, metadata, keyId: null, outcome, outcomeKeyId: null }
  }

  /** As readers see it: also where it was forgotten, and something else is declared for it. */
  function* openRow(row: EncodedCommand, find: FindKey): Steps<EncodedCommand | CryptoError> {
    const opened = yield* open(row, find)
    const isForgotten = isError(opened) && opened._tag === "Shredded"
    return (isForgotten ? cipher.subjects?.replacements.command(row) : undefined) ?? opened
  }

  const openRows = (rows: ReadonlyArray<EncodedCommand>): Effect.Effect<ReadonlyArray<EncodedCommand>, CryptoError> =>
    openAll(cipher, rows, addKeyIds, openRow)

  return { seal, sealOutcome, openField, open, openRows }
}

type Written = Place & Pick<EncodedCommand, "data" | "metadata">

const subjectOf = (rules: Rules, command: Written) => rules.command(command)

const placeOf = ({ domain, id, tenantId, type }: Place): string => `the command ${id} (${tenantId}/${domain}, ${type})`

const addKeyIds = ({ keyId, outcomeKeyId }: EncodedCommand, add: (id: string) => void): void => {
  if (keyId !== null) add(keyId)
  if (outcomeKeyId !== null) add(outcomeKeyId)
}

export const seal = (
  cipher: Cipher,
  port: Encoded
): Effect.Effect<Encoded, InvalidInput | StoreFailure | KeyCheckFailed> =>
  sealing(
    "CommandStore",
    port,
    Effect.map(prepare(cipher, "CommandStore", port.note), (storeId) => overPort(cipher, port, storeId))
  )

const overPort = (cipher: Cipher, port: Encoded, storeId: string): readonly [Encoded, Upkeep] => {
  const codec = commandCodec(cipher, storeId)
  // By position: a command that was deleted and created again may have another type. And only what this process has
  // just created, since SQLite gives the position of a creation that was rolled back to the next one.
  const places = new Map<number, Begun>()

  /** The key of a command. `stored`: what it has already, also where it is written anew. */
  const keyOf = (stored: string | null, command: Written): Effect.Effect<Key | null, StoreFailure> =>
    keyFor(
      cipher,
      stored,
      (rules) => subjectOf(rules, command),
      () => placeOf(command)
    )

  const openOne = (row: EncodedCommand): Effect.Effect<EncodedCommand, CryptoError> =>
    Effect.map(codec.openRows([row]), ([opened]) => opened as EncodedCommand)

  const openNullable = (row: EncodedCommand | null): Effect.Effect<EncodedCommand | null, CryptoError> =>
    row === null ? Effect.succeed(null) : openOne(row)

  const remember = ({ domain, id, position, tenantId, type }: EncodedCommand, key: Key | null): void => {
    places.set(position, { place: { id, tenantId, domain, type }, keyId: key?.id ?? null })
    if (places.size > placesMax) places.delete(places.keys().next().value as number)
  }

  const create: Encoded["create"] = (command, lease) =>
    Effect.flatMap(keyOf(null, command), (key) =>
      Effect.flatMap(
        Effect.flatMap(
          inTurns(() => codec.seal(key, command, command.data, command.metadata)),
          (sealed) => port.create({ ...command, ...sealed }, lease)
        ),
        (outcome): Effect.Effect<CreateOutcome, CryptoError> => {
          if (outcome._tag === "Created") {
            const { data, keyId, metadata } = command
            if (lease !== null) remember(outcome.command, key)
            return Effect.succeed({ ...outcome, command: { ...outcome.command, data, metadata, keyId } })
          }
          places.delete(outcome.command.position)
          return Effect.map(openOne(outcome.command), (command) => ({ ...outcome, command }))
        }
      )
    )

  const begunOf = (id: string, position: number): Effect.Effect<Begun | null, StoreFailure> => {
    const known = places.get(position)
    return known === undefined
      ? Effect.map(port.get(id), (row) => (row === null ? null : { place: row, keyId: row.keyId }))
      : Effect.succeed(known)
  }

  /** The key of an outcome: that of its command, if that is a subject's. */
  const outcomeKey = ({ keyId, place }: Begun): Effect.Effect<Key | null, StoreFailure> =>
    keyFor(
      cipher,
      keyId,
      () => undefined,
      () => placeOf(place)
    )

  /** `finish` or `close`. `forgotten`: what to report of one that has ended without its outcome. */
  const ending =
    (
      end: Encoded["finish"],
      forgotten: (hasEnded: boolean, error: SubjectShredded) => ReturnType<Encoded["finish"]>
    ): Encoded["finish"] =>
    (request) => {
      const { id, outcome, position, status } = request
      if (outcome === null) return end(request)
      return Effect.flatMap(begunOf(id, position), (begun) => {
        if (begun === null) return Effect.succeed(false)
        const ended = Effect.flatMap(outcomeKey(begun), (key) =>
          Effect.flatMap(
            inTurns(() => codec.sealOutcome(key, begun.place, status, outcome)),
            (sealed) => end({ ...request, ...sealed })
          )
        )
        // Its subject was forgotten meanwhile: what it has done is done, so nobody may begin again, and its outcome is
        // lost.
        const without = (error: SubjectShredded) =>
          Effect.flatMap(end({ ...request, outcome: null, outcomeKeyId: null }), (hasEnded) =>
            forgotten(hasEnded, error)
          )
        return Effect.tap(Effect.catchTag(ended, "SubjectShredded", without), () => places.delete(position))
      })
    }

  const finish = ending(port.finish, (_, error) => Effect.fail(error))

  // Nobody waits for its outcome, which says no more than that.
  const closeAt = ending(port.close, Effect.succeed)

  /** An outcome is sealed for the command at one position. */
  const close: Encoded["close"] = ({ position, ...request }) =>
    position === null
      ? Effect.flatMap(port.get(request.id), (row) =>
          row === null ? Effect.succeed(false) : closeAt({ ...request, position: row.position })
        )
      : closeAt({ ...request, position })

  /** The field that is not replaced. */
  const kept = (row: EncodedCommand, field: "data" | "metadata"): Effect.Effect<string, CryptoError> =>
    Effect.flatMap(cipher.ring.finding(new Set(row.keyId === null ? [] : [row.keyId])), (find) =>
      openedInTurns(() => codec.openField(row, field, find))
    )

  /** Data and metadata as they will be, if they are still as they were when they were read. */
  const updatePayloads = (
    row: EncodedCommand,
    data: string | null,
    metadata: string | null
  ): Effect.Effect<boolean, StoreFailure> => {
    const replacesData = data !== null
    return Effect.flatMap(
      Effect.all([
        data === null ? kept(row, "data") : Effect.succeed(data),
        metadata === null ? kept(row, "metadata") : Effect.succeed(metadata)
      ]),
      ([data, metadata]) =>
        Effect.flatMap(keyOf(row.keyId, { ...row, data, metadata }), (key) =>
          Effect.flatMap(
            inTurns(() => codec.seal(key, row, data, metadata)),
            (sealed) => {
              const { outcome, outcomeKeyId } = row
              const payloads = { ...sealed, outcome, outcomeKeyId }
              return port.replace({ id: row.id, was: row, payloads, changes: replacesData })
            }
          )
        )
    )
  }

  /** Reads the place, since all is bound to it; what is replaced is not opened. */
  const update: Encoded["update"] = (request) => {
    const { data, id, metadata, status } = request
    return Effect.flatMap(port.get(id), (row) => {
      if (row === null) return Effect.succeed(false)
      const unchanged = { id, data: null, metadata: null, keyId: null }
      const changeStatus =
        status === null
          ? Effect.succeed(true)
          : status.outcome === null
            ? port.update({ ...unchanged, status })
            : Effect.flatMap(outcomeKey({ place: row, keyId: row.keyId }), (key) =>
                Effect.flatMap(
                  inTurns(() => codec.sealOutcome(key, row, status.status, status.outcome)),
                  (sealed) => port.update({ ...unchanged, status: { ...status, ...sealed } })
                )
              )
      if (data === null && metadata === null) return changeStatus
      const changePayloads = updatePayloads(row, data, metadata)
      const whole =
        status === null
          ? changePayloads
          : port.transaction(
              Effect.flatMap(changePayloads, (changed) => (changed ? changeStatus : Effect.succeed(false)))
            )
      // Somebody else has changed it meanwhile, or deleted it.
      return Effect.flatMap(whole, (changed) => (changed ? Effect.succeed(true) : update(request)))
    })
  }

  function* sealPayloads(
    key: Key | null,
    row: EncodedCommand,
    { data, metadata, outcome }: Pick<EncodedPayloads, "data" | "metadata" | "outcome">
  ): Steps<EncodedPayloads> {
    return {
      ...(yield* codec.seal(key, row, data, metadata)),
      ...(yield* codec.sealOutcome(key, row, row.status, outcome))
    }
  }

  const isAsWas = (row: EncodedPayloads, was: EncodedPayloads): boolean =>
    row.data === was.data && row.metadata === was.metadata && row.outcome === was.outcome

  const replace: Encoded["replace"] = ({ changes, id, payloads, was }) =>
    Effect.flatMap(port.get(id), (row) => {
      if (row === null) return Effect.succeed(false)
      return Effect.flatMap(openOne(row), (opened) =>
        isAsWas(opened, was)
          ? Effect.flatMap(keyOf(row.keyId, { ...row, ...payloads }), (key) =>
              Effect.flatMap(
                inTurns(() => sealPayloads(key, row, payloads)),
                (payloads) => port.replace({ id, changes, was: row, payloads })
              )
            )
          : Effect.succeed(false)
      )
    })

  const rows: RowCodec<EncodedCommand> = {
    keyIds: ({ keyId, outcome, outcomeKeyId }) => (outcome === null ? [keyId] : [keyId, outcomeKeyId]),
    open: codec.open,
    *seal(key, row) {
      return { ...row, ...(yield* sealPayloads(key, row, row)) }
    },
    subjectOf,
    payloads: ({ data, metadata, outcome }) => [data, metadata, outcome],
    replace: (was, payloads) => port.replace({ id: was.id, was, payloads: payloadsOf(payloads), changes: false })
  }

  const upkeep = upkeepOf(cipher, {
    store: "CommandStore",
    total: Effect.map(port.info, ({ commands }) => commands),
    records: () =>
      Stream.map(
        pagedStream(
          rangePages(
            (range) => port.list({ ...range, filter: anyCommand }),
            { after: 0, through: Number.MAX_SAFE_INTEGER, direction: "forward" as const },
            Number.MAX_SAFE_INTEGER,
            (range, { position }) => ({ ...range, after: position })
          )
        ),
        (row) => rowRecord(cipher, rows, placeOf(row), rows.keyIds(row), Effect.succeed(row))
      )
  })

  const sealed: Encoded = {
    create,
    takeOver: port.takeOver,
    renew: port.renew,
    finish,
    close,
    open: port.open,
    postpone: port.postpone,
    get: (id) => Effect.flatMap(port.get(id), openNullable),
    list: (request) =>
      Effect.flatMap(port.list(request), ({ items, more }) =>
        Effect.map(codec.openRows(items), (items) => ({ items, more }))
      ),
    distinct: port.distinct,
    count: port.count,
    info: Effect.flatMap(port.info, (info) =>
      Effect.map(openNullable(info.lastCommand), (lastCommand) => ({ ...info, lastCommand }))
    ),
    update,
    replace,
    delete: port.delete,
    prune: port.prune,
    note: port.note,
    reset: port.reset,
    transaction: port.transaction
  }
  return [sealed, upkeep]
}

const payloadsOf = ({ data, keyId, metadata, outcome, outcomeKeyId }: EncodedPayloads): EncodedPayloads => ({
  data,
  metadata,
  keyId,
  outcome,
  outcomeKeyId
})
