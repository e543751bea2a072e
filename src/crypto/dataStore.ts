/**
 * The DataStore's port, sealed: a body is an object of the format O1, and what is known of it is bound, like its key
 * header, to bucket, name, content type and the id of its write. The key header stands beside the body only, where a
 * copy replaces it without a look at the body; what stands before the body has no key.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type CryptoError, type KeyCheckFailed, Tampered, Truncated, UnsupportedFormat } from "../CryptoError.js"
import type { BodyError, ObjectId } from "../DataStore.js"
import {
  type Condition,
  type Encoded,
  type EncodedEntry,
  type EncodedFields,
  type EncodedObject,
  type NewObject,
  type OpenObject,
  Regrouping,
  Summing,
  verified,
  type Written
} from "../dataStore/DataStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import { ContextWriter } from "./formats/context.js"
import type { FindKey } from "./formats/envelope.js"
import * as format from "./formats/object.js"
import { atOnce } from "./formats/steps.js"
import { isSubjectId, type Key } from "./keys/key.js"
import { objectUpkeep } from "./objects.js"
import {
  bytesOf,
  type Cipher,
  isError,
  openText,
  prepare,
  refusedPlain,
  sealing,
  sealingKeyFor,
  seals,
  sealText
} from "./sealer.js"
import type { Upkeep } from "./upkeep.js"

type Place = ObjectId & Pick<EncodedFields, "contentType"> & { readonly writeId: string | null }
type Field = "header" | "metadata" | "checksums"

/** An object's key, with what the body begins with behind the key header. */
interface Secret {
  readonly object: format.ObjectKey
  readonly bodyHeader: Buffer
}

export interface Opened {
  /** As the lift is to see it. */
  readonly object: EncodedObject
  readonly secret: Secret
}

const sumForm = /^(\d{1,16})\.([0-9a-f]{64})$/

/** How what is known of objects is sealed and opened, for the port and for who works on stored objects. */
export const objectCodec = (cipher: Cipher, storeId: string) => {
  const context = (place: Place, field: Field): Buffer =>
    new ContextWriter()
      .text("kind", "object")
      .text("store", storeId)
      .text("type", place.contentType)
      .text("field", field)
      .text("bucket", place.bucket)
      .text("object", place.name)
      .text("write", place.writeId ?? "").bytes

  const named =
    ({ bucket, name }: ObjectId) =>
    () =>
      `the object ${bucket}/${name}`

  const seal = (
    key: Key,
    place: Place,
    { bodyHeader, object }: Secret,
    metadata: string
  ): Pick<EncodedFields, "metadata" | "keyId"> => {
    const head = Buffer.concat([format.wrap(key, context(place, "header"), object), bodyHeader])
    const sealed = atOnce(sealText(key, context(place, "metadata"), metadata))
    return { metadata: `${head.toString("base64url")}.${sealed}`, keyId: key.id }
  }

  /** The checksum of the plaintext, and its size: so that both are known to be true before the body is read. */
  const sealSums = (key: Key, place: Place, size: number, sha256: string): string =>
    atOnce(sealText(key, context(place, "checksums"), `${size}.${sha256}`))

  const openSecret = (row: EncodedObject, keyId: string, head: string, find: FindKey): Secret | CryptoError => {
    const place = named(row)
    const bytes = atOnce(bytesOf(head, place))
    if (!Buffer.isBuffer(bytes)) return bytes
    const inside = format.keyIdOf(bytes, place)
    if (typeof inside !== "string") return inside
    if (inside !== keyId) return new Tampered({ keyId, place: place() })
    if (bytes.length !== format.headBytes) return new Truncated({ place: place() })
    const object = format.unwrap(find, context(row, "header"), bytes, place)
    return isError(object) ? object : { object, bodyHeader: bytes.subarray(format.headerBytes) }
  }

  /** Of an object that is sealed. */
  const open = (row: EncodedObject, keyId: string, find: FindKey): Opened | CryptoError => {
    const place = named(row)
    const [head, sealed, ...rest] = row.metadata.split(".")
    if (head === undefined || sealed === undefined || rest.length > 0 || row.checksums === null)
      return new UnsupportedFormat({ place: place(), why: "has no key header" })
    const secret = openSecret(row, keyId, head, find)
    if (isError(secret)) return secret
    const metadata = atOnce(openText(find, keyId, context(row, "metadata"), sealed, place))
    if (typeof metadata !== "string") return metadata
    const sums = atOnce(openText(find, keyId, context(row, "checksums"), row.checksums, place))
    if (typeof sums !== "string") return sums
    const [, size, sha256 = ""] = sumForm.exec(sums) ?? []
    if (Number(size) !== format.plainLength(row.size)) return new Truncated({ place: place() })
    return { object: { ...row, metadata, checksums: sha256, keyId: null, size: Number(size) }, secret }
  }

  const refused = (row: EncodedObject) => refusedPlain(cipher, row.modifiedAt, "createdUntilMs", named(row))

  return { seal, sealSums, open, refused, named }
}

export const seal = (
  cipher: Cipher,
  port: Encoded
): Effect.Effect<Encoded, InvalidInput | StoreFailure | KeyCheckFailed> =>
  sealing(
    "DataStore",
    port,
    Effect.map(prepare(cipher, "DataStore", port.note), (storeId) => overPort(cipher, port, storeId))
  )

const overPort = (cipher: Cipher, port: Encoded, storeId: string): readonly [Encoded, Upkeep] => {
  const codec = objectCodec(cipher, storeId)
  const { capabilities } = port

  /** Null: it is plain, and welcome. */
  const opened = (row: EncodedObject): Effect.Effect<Opened | null, CryptoError> => {
    const { keyId } = row
    // A backend of files or of S3 reads them from text that anybody may have written.
    if (!areTexts([row.metadata, row.contentType]) || !areTextsOrNull([row.writeId, row.checksums, keyId])) {
      return Effect.fail(new UnsupportedFormat({ place: codec.named(row)(), why: "has fields that are no text" }))
    }
    if (keyId === null) {
      const refused = codec.refused(row)
      return refused === undefined ? Effect.succeed(null) : Effect.fail(refused)
    }
    return Effect.flatMap(cipher.ring.finding(new Set([keyId])), (find) => {
      const found = codec.open(row, keyId, find)
      return isError(found) ? Effect.fail(found) : Effect.succeed(found)
    })
  }

  /** `stored`: the key of what it is made of. */
  const keyOf = (stored: string | null, fields: ObjectId & Pick<EncodedFields, "contentType" | "metadata">) =>
    sealingKeyFor(
      cipher,
      stored,
      (rules) => rules.object(fields),
      () => codec.named(fields)()
    )

  /**
   * Who has opened an object has its key, and would read on after its subject was forgotten: so the subject's key is
   * asked for again with each piece.
   */
  const whileKept = (
    keyId: string,
    place: () => string,
    pieces: Stream.Stream<Uint8Array, BodyError>
  ): Stream.Stream<Uint8Array, BodyError> => {
    if (!isSubjectId(keyId)) return pieces
    const isKept = Effect.flatMap(cipher.ring.finding(new Set([keyId])), (find) => {
      const key = find(keyId, place)
      return isError(key) ? Effect.fail(key) : Effect.void
    })
    const guarded = Stream.mapChunksEffect(pieces, (chunk) => Effect.as(isKept, chunk))
    return Stream.unwrap(Effect.as(isKept, guarded))
  }

  const openedOver = ({ object: row, read }: OpenObject): Effect.Effect<OpenObject, CryptoError> =>
    Effect.map(opened(row), (found): OpenObject => {
      if (found === null) return { object: row, read }
      const { object, secret } = found
      const opening = { ...secret, keyId: row.keyId ?? "", place: codec.named(row) }
      return {
        object,
        isVerified: true,
        read: (offset, length) => {
          const range = format.rangeOf(offset, length, row.size)
          const pieces = format.openRange(opening, range, read(range.from, range.to - range.from))
          return whileKept(opening.keyId, opening.place, pieces)
        }
      }
    })

  const put: Encoded["put"] = (object, body, condition) => putAs(object, body, condition, null, false)

  /**
   * `stored`: the key of what it is made of. `proved`: what was sealed is opened again on its way, and fails the put
   * unless it is what came in.
   */
  const putAs = <E>(
    { finish, ...given }: NewObject,
    body: Stream.Stream<Uint8Array, E>,
    condition: Condition,
    stored: string | null,
    proved: boolean
  ): Effect.Effect<Written, StoreFailure | E> => {
    if (!seals(cipher)) return port.put({ ...given, finish }, body, condition)
    return Effect.flatMap(keyOf(stored, given), (key) => {
      const object = format.newObjectKey()
      const { header: bodyHeader, segments } = format.beginBody(object)
      const fields = codec.seal(key, given, { object, bodyHeader }, given.metadata)
      const head = Buffer.concat([format.keyless(object), bodyHeader])
      let size = 0
      const counted = Stream.suspend(() => {
        size = 0
        return Stream.map(body, (piece) => {
          size += piece.byteLength
          return piece
        })
      })
      // Asked for once, and maybe before the put asks for it.
      let sum: string | undefined
      const sha256 = () => {
        sum ??= (finish().checksums ?? "").slice(0, 64)
        return sum
      }
      const sealed = segments(counted)
      const opening = { object, bodyHeader, keyId: key.id, place: codec.named(given) }
      return port.put(
        {
          ...given,
          ...fields,
          size: given.size === null ? null : format.sealedLength(given.size),
          finish: () => ({ checksums: codec.sealSums(key, given, size, sha256()) })
        },
        regrouped(
          Stream.concat(Stream.make<[Uint8Array]>(head), proved ? format.proving(opening, sealed, sha256) : sealed)
        ),
        condition
      )
    })
  }

  /** A copy by way of this process: of what is plain and is to be sealed, or the other way round. */
  const copyThrough = (
    source: OpenObject,
    to: Parameters<Encoded["copy"]>[1],
    condition: Condition,
    stored: string | null
  ): Effect.Effect<Written, StoreFailure | BodyError> => {
    const { size } = source.object
    const summing = new Summing()
    const body = Stream.map(verified(source, 0, size), (piece) => {
      summing.add(piece)
      return piece
    })
    const object = { ...to, size, keyId: null, finish: () => ({ checksums: summing.text() }) }
    return putAs(object, body, condition, stored, true)
  }

  const copy: Encoded["copy"] = (from, to, condition) =>
    Effect.flatMap(port.open(from), (source): Effect.Effect<Written, StoreFailure | BodyError> => {
      if (source === null || source === "NoBucket" || source.object.etag !== from.etag)
        return Effect.succeed<Written>({ _tag: "Refused" })
      const row = asked(source.object, from)
      if (seals(cipher) !== (row.keyId !== null))
        return Effect.flatMap(openedOver({ ...source, object: row }), (source) =>
          copyThrough(source, to, condition, row.keyId)
        )
      return Effect.flatMap(opened(row), (found) => {
        if (found === null) return port.copy(source.object, to, condition)
        const { object, secret } = found
        return Effect.flatMap(keyOf(row.keyId, to), (key) => {
          const checksums = codec.sealSums(key, to, object.size, object.checksums ?? "")
          return port.copy(source.object, { ...to, ...codec.seal(key, to, secret, to.metadata), checksums }, condition)
        })
      })
    })

  /** Where the backend does not say whether it is sealed, all of a store that takes nothing else is. */
  const entryOf = (entry: EncodedEntry): EncodedEntry => {
    if (entry._tag === "Prefix" || entry.keyId === null) return entry
    if (entry.keyId === undefined && cipher.policy !== "RequireEncrypt") return entry
    return { ...entry, size: format.plainLength(entry.size) ?? entry.size }
  }

  const upkeep = objectUpkeep(cipher, port, { codec, keyOf, opened, openedOver, copyThrough, regrouped })

  const sealed: Encoded = {
    ...port,
    capabilities: {
      ...capabilities,
      // Who has no key would get what is sealed, and put what nobody can open.
      presign: false,
      public: false,
      sizeMax: format.plainLengthMax(capabilities.sizeMax),
      conditionalSizeMax: format.plainLengthMax(capabilities.conditionalSizeMax)
    },
    put,
    open: (id) =>
      Effect.flatMap(
        port.open(id),
        (found): Effect.Effect<OpenObject | "NoBucket" | null, CryptoError> =>
          found === null || found === "NoBucket"
            ? Effect.succeed(found)
            : openedOver({ ...found, object: asked(found.object, id) })
      ),
    copy,
    list: (bucket, request) => Stream.map(port.list(bucket, request), entryOf),
    presign: null
  }
  return [sealed, upkeep]
}

/** The place that an object is bound to is the one that was asked for, whatever the backend says it has found. */
const asked = (row: EncodedObject, { bucket, name }: ObjectId): EncodedObject => ({ ...row, bucket, name })

/** In pieces as a port takes them. */
const regrouped = <E, R>(source: Stream.Stream<Uint8Array, E, R>): Stream.Stream<Uint8Array, E, R> =>
  Stream.suspend(() => {
    const regrouping = new Regrouping()
    const rest = Stream.suspend(() => {
      const bytes = regrouping.rest()
      return bytes === undefined ? Stream.empty : Stream.make(bytes)
    })
    return Stream.concat(
      Stream.mapChunks(source, (pieces) =>
        Chunk.flatMap(pieces, (piece) => Chunk.unsafeFromArray(regrouping.push(piece)))
      ),
      rest
    )
  })

const areTexts = (fields: ReadonlyArray<unknown>): boolean => fields.every((field) => typeof field === "string")

const areTextsOrNull = (fields: ReadonlyArray<unknown>): boolean => areTexts(fields.filter((field) => field !== null))
