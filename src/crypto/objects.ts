/**
 * The upkeep of sealed objects: a new key header for the same body, or the whole body anew. An object is replaced on
 * the condition that it is still the same where the backend can do that in one step; elsewhere only where the caller
 * says that nobody else writes objects.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { CryptoError } from "../CryptoError.js"
import type { BodyError, ObjectId } from "../DataStore.js"
import {
  type Condition,
  type Encoded,
  type EncodedFields,
  type EncodedObject,
  type OpenObject,
  verified,
  type Written
} from "../dataStore/DataStoreEncoded.js"
import type { StoreFailure } from "../Errors.js"
import * as Uuid from "../Uuid.js"
import type { Opened, objectCodec } from "./dataStore.js"
import { findIn } from "./formats/envelope.js"
import * as format from "./formats/object.js"
import type { Key } from "./keys/key.js"
import { type Cipher, isError } from "./sealer.js"
import {
  type RecordFailure,
  type Resealed,
  type StoredRecord,
  subjectIn,
  type Upkeep,
  upkeepOf,
  type WalkOptions
} from "./upkeep.js"

/** Objects that are looked at ahead, since each is a question to the backend. */
const looksAtOnce = 8

type To = ObjectId & EncodedFields & { readonly writeId: string; readonly modifiedAt: number }

/** What the seal of the port has made of it. */
export interface SealedObjects {
  readonly codec: ReturnType<typeof objectCodec>
  /** The key that an object is to have. `stored`: the key of what it is made of. */
  readonly keyOf: (
    stored: string | null,
    fields: ObjectId & Pick<EncodedFields, "contentType" | "metadata">
  ) => Effect.Effect<Key, StoreFailure>
  /** Null: it is plain, and welcome. */
  readonly opened: (row: EncodedObject) => Effect.Effect<Opened | null, CryptoError>
  readonly openedOver: (found: OpenObject) => Effect.Effect<OpenObject, CryptoError>
  /** Encrypts the body anew, and holds what it has encrypted against it before that is the object. */
  readonly copyThrough: (
    source: OpenObject,
    to: To,
    condition: Condition,
    stored: string | null
  ) => Effect.Effect<Written, StoreFailure | BodyError>
  readonly regrouped: (source: Stream.Stream<Uint8Array, BodyError>) => Stream.Stream<Uint8Array, BodyError>
}

export const objectUpkeep = (cipher: Cipher, port: Encoded, sealed: SealedObjects): Upkeep => {
  const { codec, copyThrough, keyOf, opened, openedOver, regrouped } = sealed
  const { conditionalSizeMax, copyIfAbsent, putIfMatch } = port.capabilities

  const names = Stream.flatMap(Stream.fromIterableEffect(port.buckets), ({ name: bucket }) =>
    port.list(bucket, { prefix: "", delimiter: null, after: "", limit: Number.MAX_SAFE_INTEGER }).pipe(
      Stream.filterMap((entry) =>
        entry._tag === "Object" ? Option.some({ bucket, name: entry.name }) : Option.none()
      ),
      // A bucket that was deleted meanwhile.
      Stream.catchTag("NotFound", () => Stream.empty)
    )
  )

  /** How to put something in the place of a row; null when it could not be seen that it is not the same any more. */
  const conditionFor = (row: EncodedObject, size: number, { exclusive }: WalkOptions): Condition | null =>
    putIfMatch && size <= conditionalSizeMax
      ? { _tag: "IfMatch", etag: row.etag }
      : exclusive
        ? { _tag: "Always" }
        : null

  /** A key header under the key that the object is to have, for the same body. */
  const rewrapped = (key: Key, found: OpenObject, old: Opened, to: To, condition: Condition) =>
    Effect.suspend((): Effect.Effect<Written, StoreFailure | BodyError> => {
      const { object, secret } = old
      const checksums = codec.sealSums(key, to, object.size, object.checksums ?? "")
      const fields = { ...to, ...codec.seal(key, to, secret, object.metadata), checksums }
      const again = codec.open({ ...found.object, ...fields }, key.id, findIn(new Map([[key.id, key]])))
      if (isError(again)) return Effect.fail(again)
      // A copy asks no condition of some backends that have one for what is put: there the same bytes are put again.
      if (condition._tag === "Always" || copyIfAbsent) return port.copy(found.object, fields, condition)
      const { size } = found.object
      const finish = () => ({ checksums })
      return port.put({ ...fields, size, finish }, regrouped(found.read(0, size)), condition)
    })

  /** `inFront`: the keys of headers that its body begins with. */
  const resealed = (
    id: ObjectId,
    options: WalkOptions,
    inFront: ReadonlyArray<string>
  ): Effect.Effect<Resealed, RecordFailure> =>
    Effect.flatMap(port.open(id), (found) => {
      if (found === null || found === "NoBucket") return Effect.succeed<Resealed>("Changed")
      const row = { ...found.object, ...id }
      const withKey = Effect.flatMap(opened(row), (old) =>
        Effect.map(keyOf(row.keyId, old?.object ?? row), (key) => [old, key] as const)
      )
      return Effect.flatMap(withKey, ([old, key]): Effect.Effect<Resealed, RecordFailure> => {
        if ([row.keyId, ...inFront].every((id) => id === key.id)) return Effect.succeed("Current")
        const anew = old === null || options.deep
        const condition = conditionFor(
          row,
          anew ? format.sealedLength(old === null ? row.size : old.object.size) : row.size,
          options
        )
        if (condition === null) return Effect.succeed("Unguarded")
        const written = Effect.clockWith((clock) =>
          Effect.suspend(() => {
            // The time of the content, which stays the same.
            const { checksums, contentType, keyId, metadata, modifiedAt } = row
            const writeId = Uuid.v7(clock.unsafeCurrentTimeMillis())
            const to = { ...id, contentType, metadata, keyId, checksums, modifiedAt, writeId }
            if (old !== null && !anew) return rewrapped(key, { ...found, object: row }, old, to, condition)
            return Effect.flatMap(openedOver({ ...found, object: row }), (source) =>
              copyThrough(source, { ...to, metadata: source.object.metadata }, condition, row.keyId)
            )
          })
        )
        return Effect.catchTag(
          Effect.map(written, ({ _tag }): Resealed => (_tag === "Stored" ? "Resealed" : "Changed")),
          "ObjectChanged",
          () => Effect.succeed<Resealed>("Changed")
        )
      })
    })

  /** The key in front of a body that begins with a key header, as bodies once did. */
  const keyInFront = ({ object, read }: OpenObject): Effect.Effect<ReadonlyArray<string>, BodyError> =>
    object.keyId === null || object.size < format.headerBytes
      ? Effect.succeed([])
      : Effect.map(Stream.runCollect(read(0, format.headerBytes)), (pieces) => {
          const keyId = format.keyIdOf(Buffer.concat([...pieces]), codec.named(object))
          return typeof keyId === "string" ? [keyId] : []
        })

  const record = (id: ObjectId, options: WalkOptions): Effect.Effect<StoredRecord | null, RecordFailure> =>
    port.open(id).pipe(
      Effect.flatMap((found): Effect.Effect<StoredRecord | null, BodyError> => {
        if (found === null || found === "NoBucket") return Effect.succeed(null)
        const whole = { ...found, object: { ...found.object, ...id } }
        return Effect.map(options.deep ? keyInFront(found) : Effect.succeed([]), (inFront) => ({
          place: codec.named(id)(),
          keyIds: [found.object.keyId, ...inFront],
          subject: Effect.flatMap(opened(whole.object), (old) =>
            subjectIn(cipher, (rules) => rules.object(old?.object ?? whole.object), codec.named(id)())
          ),
          open: Effect.flatMap(openedOver(whole), (source) =>
            options.deep ? Stream.runDrain(verified(source, 0, source.object.size)) : Effect.void
          ).pipe(Effect.catchTag("ObjectChanged", () => Effect.void)),
          reseal: resealed(id, options, inFront)
        }))
      }),
      // Replaced since it was opened: by whoever has the primary key, or the next look finds it.
      Effect.catchTag("ObjectChanged", () => Effect.succeed(null)),
      Effect.catchTag("ObjectCorrupt", (corrupt) =>
        Effect.succeed({ place: codec.named(id)(), keyIds: [], open: corrupt, subject: corrupt, reseal: corrupt })
      )
    )

  return upkeepOf(cipher, {
    store: "DataStore",
    total: Stream.runCount(names),
    records: (options) =>
      names.pipe(
        Stream.mapEffect((id) => record(id, options), { concurrency: looksAtOnce }),
        Stream.filter((found) => found !== null)
      )
  })
}
