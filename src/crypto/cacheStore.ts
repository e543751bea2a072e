/**
 * The CacheStore's port, sealed: a value is bound to its tenant and key. What does not open is no value, and the lift
 * counts it as absent: a cache may lose what it likes.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { CryptoError, KeyCheckFailed } from "../CryptoError.js"
import type { Begun, Encoded, EncodedEntry, Payload, Place, Settlement } from "../cacheStore/CacheStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import { pagedStream } from "../internal/pages.js"
import { ContextWriter } from "./formats/context.js"
import type { FindKey } from "./formats/envelope.js"
import { inTurns, type Steps } from "./formats/steps.js"
import type { Key } from "./keys/key.js"
import { type Cipher, keyFor, keysFor, openAll, openText, prepare, refusedPlain, sealing, sealText } from "./sealer.js"
import type { Rules } from "./subjects/rules.js"
import { type RowCodec, rowRecord, type Upkeep, upkeepOf } from "./upkeep.js"

/** What no reader takes for a value: a plain one that the policy refuses. */
const noKey = ""

/** Between two looks whether the store still has the id that this process knows. */
const lookEveryMs = 5_000

/** When a plain value was stored nobody knows: with a watermark, it may have been after. */
const unknownTime = Number.MAX_SAFE_INTEGER

interface Row extends Payload, Place {
  /** Whether it may have been moved here: from another place, or from a store of another id. */
  readonly moved?: boolean
}

/** How values are sealed and opened, for the port and for who works on stored entries. */
export const cacheCodec = (cipher: Cipher, storeId: string) => {
  const context = ({ key, tenantId }: Place): Buffer =>
    new ContextWriter().text("kind", "cache").text("store", storeId).text("tenant", tenantId).text("key", key).bytes

  const named = (place: Place) => () => placeOf(place)

  function* seal<Write extends Place & Payload>(key: Key | null, write: Write): Steps<Write> {
    // What has a key already did not open, in the level behind this one: sealed anew it would pass for authentic.
    return key === null || write.keyId !== null
      ? write
      : { ...write, value: yield* sealText(key, context(write), write.value), keyId: key.id }
  }

  function* open(row: Row, find: FindKey): Steps<string | CryptoError> {
    return row.keyId === null
      ? (refusedPlain(cipher, unknownTime, "createdUntilMs", named(row)) ?? row.value)
      : yield* openText(find, row.keyId, context(row), row.value, named(row))
  }

  /** A row that does not open keeps its key, so that the lift calls it unreadable. */
  function* openRow<R extends Row>(row: R, find: FindKey): Steps<R> {
    const value = yield* open(row, find)
    if (typeof value === "string") return { ...row, value, keyId: null }
    const refused = row.keyId === null
    return { ...row, value: refused ? "" : row.value, keyId: row.keyId ?? noKey, moved: value._tag === "Tampered" }
  }

  const openRows = <R extends Row>(rows: ReadonlyArray<R>): Effect.Effect<ReadonlyArray<R>, CryptoError> =>
    openAll(cipher, rows, addKeyId, openRow)

  return { seal, open, openRows }
}

const placeOf = ({ key, tenantId }: Place): string => `the cached value ${key} of ${tenantId}`

const subjectOf = (rules: Rules, { keyId, ...entry }: Place & Payload) =>
  // What has a key already did not open, and is passed on as it is.
  keyId === null ? rules.cached(entry) : undefined

const addKeyId = ({ keyId }: Row, add: (id: string) => void): void => {
  if (keyId !== null) add(keyId)
}

export const seal = (
  cipher: Cipher,
  port: Encoded
): Effect.Effect<Encoded, InvalidInput | StoreFailure | KeyCheckFailed> =>
  sealing(
    "CacheStore",
    port,
    Effect.map(prepare(cipher, "CacheStore", port.note), (storeId) => overPort(cipher, port, storeId))
  )

const overPort = (cipher: Cipher, port: Encoded, firstId: string): readonly [Encoded, Upkeep] => {
  let storeId = firstId
  let codec = cacheCodec(cipher, storeId)
  let lookedMs = Number.NEGATIVE_INFINITY

  /** Each of them sealed with the key that it is to have. */
  const sealAll = <Write extends Place & Payload>(
    writes: ReadonlyArray<Write>
  ): Effect.Effect<ReadonlyArray<Write>, StoreFailure> =>
    Effect.flatMap(keysFor(cipher, writes, subjectOf, placeOf), (keyOf) =>
      keyOf === null
        ? Effect.succeed(writes)
        : inTurns(function* () {
            const sealed: Array<Write> = []
            for (const write of writes) sealed.push(yield* codec.seal(keyOf(write), write))
            return sealed
          })
    )

  /**
   * A cache may be emptied by its server, the id with it, and the next process then draws another. Whoever finds what
   * it cannot open therefore looks, now and then, whether its own id still holds. True when it does not.
   */
  const hasNewId: Effect.Effect<boolean> = Effect.flatMap(Clock.currentTimeMillis, (nowMs) => {
    if (nowMs - lookedMs < lookEveryMs) return Effect.succeed(false)
    lookedMs = nowMs
    return Effect.match(port.note("id", storeId), {
      onFailure: () => false,
      onSuccess: (id) => {
        if (id === null || id === storeId) return false
        storeId = id
        codec = cacheCodec(cipher, id)
        return true
      }
    })
  })

  const openRows = <R extends Row>(rows: ReadonlyArray<R>): Effect.Effect<ReadonlyArray<R>, CryptoError> =>
    Effect.flatMap(codec.openRows(rows), (opened) =>
      opened.some(({ moved }) => moved)
        ? Effect.flatMap(hasNewId, (isNew) => (isNew ? codec.openRows(rows) : Effect.succeed(opened)))
        : Effect.succeed(opened)
    )

  const openEntries = (
    tenantId: string,
    keys: ReadonlyArray<string>,
    entries: ReadonlyArray<EncodedEntry | null>
  ): Effect.Effect<ReadonlyArray<EncodedEntry | null>, CryptoError> => {
    const rows = entries.flatMap((entry, i) => (entry === null ? [] : [{ ...entry, tenantId, key: keys[i] as string }]))
    return rows.length === 0
      ? Effect.succeed(entries)
      : Effect.map(openRows(rows), (opened) => {
          let next = 0
          return entries.map((entry) => (entry === null ? null : (opened[next++] as EncodedEntry)))
        })
  }

  const begin: Encoded["begin"] = (request) =>
    Effect.flatMap(port.begin(request), (begun) =>
      openEntries(
        request.tenantId,
        request.keys,
        begun.map(({ entry }) => entry)
      ).pipe(
        Effect.map((entries) => begun.map((one, i) => ({ ...one, entry: entries[i] ?? null }) as Begun)),
        // The caller will not hear of its tickets.
        Effect.tapError(() => giveBack(begun.flatMap((one) => (one._tag === "Granted" ? [one.ticket] : []))))
      )
    )

  const giveBack = (tickets: ReadonlyArray<Settlement["ticket"]>): Effect.Effect<void> =>
    tickets.length === 0
      ? Effect.void
      : Effect.ignore(port.settle(tickets.map((ticket) => ({ ticket, write: null, holdMs: 0 }))))

  const settle: Encoded["settle"] = (settlements) =>
    settlements.every(({ write }) => write === null)
      ? port.settle(settlements)
      : Effect.flatMap(
          Effect.tapError(sealAll(settlements.flatMap(({ write }) => write ?? [])), () =>
            giveBack(settlements.map(({ ticket }) => ticket))
          ),
          (sealed) => {
            let next = 0
            return port.settle(
              settlements.map((one) => (one.write === null ? one : { ...one, write: sealed[next++] ?? null }))
            )
          }
        )

  const replace: Encoded["replace"] = (place, was, payload) =>
    Effect.flatMap(port.get(place, true), (entry) => {
      if (entry === null) return Effect.succeed(false)
      return Effect.flatMap(openRows([{ ...entry, ...place }]), ([opened]) => {
        if (opened?.value !== was.value || opened.keyId !== was.keyId) return Effect.succeed(false)
        const write = { ...place, ...payload }
        const key = keyFor(
          cipher,
          entry.keyId,
          (rules) => subjectOf(rules, write),
          () => placeOf(place)
        )
        return Effect.flatMap(key, (key) =>
          Effect.flatMap(
            inTurns(() => codec.seal(key, write)),
            (sealed) => port.replace(place, entry, sealed)
          )
        )
      })
    })

  const rows: RowCodec<Place & Payload> = {
    keyIds: ({ keyId }) => [keyId],
    // What was stored under the id that the store has now.
    *open(row, find) {
      const value = yield* codec.open(row, find)
      return typeof value === "string" ? { ...row, value, keyId: null } : value
    },
    seal: (key, row) => codec.seal(key, row),
    subjectOf,
    payloads: ({ value }) => [value],
    replace: (was, now) => port.replace(was, was, now)
  }

  const upkeep = upkeepOf(cipher, {
    store: "CacheStore",
    total: Effect.map(port.info, ({ entries }) => entries),
    records: () =>
      Stream.map(pagedStream(port.addresses), ({ key, keyId, tenantId }) => {
        const place = { tenantId, key }
        const row = Effect.map(port.get(place, true), (entry) =>
          entry === null ? null : { ...place, value: entry.value, keyId: entry.keyId }
        )
        return rowRecord(cipher, rows, placeOf(place), [keyId], row)
      })
  })

  const sealed: Encoded = {
    ...port,
    get: (place, left) =>
      Effect.flatMap(port.get(place, left), (entry) =>
        entry === null
          ? Effect.succeed(null)
          : Effect.map(openRows([{ ...entry, ...place }]), ([opened]) => opened as EncodedEntry)
      ),
    getMany: (tenantId, keys, left) =>
      Effect.flatMap(port.getMany(tenantId, keys, left), (entries) => openEntries(tenantId, keys, entries)),
    set: (writes) => Effect.flatMap(sealAll(writes), port.set),
    setIfAbsent: (write) => Effect.flatMap(sealAll([write]), ([sealed]) => port.setIfAbsent(sealed as typeof write)),
    begin,
    settle,
    replace
  }
  return [sealed, upkeep]
}
