/**
 * The step from the DataStore's port to its public service. Here, once for all backends: input is checked, what a
 * backend cannot do is refused, writes get their ids, metadata becomes text and back, and what is composed of other
 * operations is composed. What is done to the bytes on their way is in `bodies`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type {
  Capabilities,
  DataStoreShape,
  Entry,
  ObjectId,
  ObjectInfo,
  Presign,
  PresignOptions,
  PutOptions
} from "../DataStore.js"
import { ObjectChanged, ObjectCorrupt, ObjectExists, ObjectTooLarge, Unsupported } from "../DataStore.js"
import { type InvalidInput, NotFound, type ReadFailure, type StoreFailure } from "../Errors.js"
import { utc } from "../internal/encoding.js"
import { Lifted, withoutKeys } from "../internal/lifted.js"
import * as Telemetry from "../internal/telemetry.js"
import { checked, refuse } from "../internal/validate.js"
import * as Uuid from "../Uuid.js"
import * as bodies from "./bodies.js"
import * as checksums from "./checksums.js"
import type { Condition, Encoded, EncodedEntry, OpenObject, Options, Written } from "./DataStoreEncoded.js"
import * as input from "./input.js"

/** Deletes of `deleteMany` under way at once. */
const deletesAtOnce = 8

/** Capabilities that are there or not. */
type Flag = { [K in keyof Capabilities]: Capabilities[K] extends boolean ? K : never }[keyof Capabilities]

const always: Condition = { _tag: "Always" }
const everything = { offset: 0, length: Number.MAX_SAFE_INTEGER }

const lifted = new Lifted<DataStoreShape, Encoded, Options>("DataStore")

export const lift = (port: Encoded, options: Options): DataStoreShape => {
  const { encoded, look } = withoutKeys("the DataStore", port, ["put", "copy"])
  return lifted.add(serviceOf(encoded, options), port, options, look)
}

export const relift = <E, R>(
  service: DataStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
): Effect.Effect<DataStoreShape, E | InvalidInput, R> =>
  Effect.map(lifted.rewrap(service, wrap), ({ encoded, options }) => lift(encoded, options))

const serviceOf = (encoded: Encoded, options: Options): DataStoreShape => {
  const { backend, capabilities, connection } = encoded
  const observe = Telemetry.make("DataStore", { connection, ...options })

  const need = (operation: string, capability: Flag, asked: boolean): Effect.Effect<void, Unsupported> =>
    !asked || capabilities[capability]
      ? Effect.void
      : Effect.fail(new Unsupported({ operation, why: `${backend} does not have ${capability} here, atomically` }))

  const open = (id: ObjectId) =>
    Effect.flatMap(encoded.open(id), (found) =>
      found === "NoBucket" ? Effect.fail(noBucket(id.bucket)) : Effect.succeed(found)
    )

  const isThere = (id: ObjectId): Effect.Effect<boolean, ReadFailure> =>
    Effect.map(encoded.open(id), (found) => found !== null && found !== "NoBucket").pipe(
      Effect.catchTag("ObjectCorrupt", () => Effect.succeed(true))
    )

  /** What a write that was done has made of these fields; else why it was not. */
  const outcome = <Fields extends Omit<ObjectInfo, "etag" | "modifiedAt">>(
    fields: Fields,
    condition: Condition,
    written: Written
  ): Effect.Effect<Fields & Pick<ObjectInfo, "etag" | "modifiedAt">, ObjectExists | ObjectChanged | NotFound> => {
    const { bucket, name } = fields
    switch (written._tag) {
      case "Stored":
        return Effect.succeed({ ...fields, etag: written.etag, modifiedAt: utc(written.modifiedAt) })
      case "NoBucket":
        return Effect.fail(noBucket(bucket))
      case "Refused":
        return Effect.fail(
          condition._tag === "IfAbsent" ? new ObjectExists({ bucket, name }) : new ObjectChanged({ bucket, name })
        )
    }
  }

  const get = (operation: string, object: ObjectId, range: () => { offset: number; length: number }) =>
    observe.effect(operation, () =>
      checked(
        () => ({ id: input.objectId(object, capabilities), ...range() }),
        ({ id, length, offset }) =>
          Effect.flatMap(open(id), (found) =>
            found === null
              ? Effect.succeedNone
              : Effect.map(decode(found), (info) => Option.some({ info, body: bodies.verified(found, offset, length) }))
          )
      )
    )

  const put: DataStoreShape["put"] = <E, R>(
    object: ObjectId,
    body: Uint8Array | Stream.Stream<Uint8Array, E, R>,
    putOptions?: PutOptions
  ) =>
    observe.write("put", (nowMs) =>
      checked(
        () => ({
          id: input.objectId(object, capabilities),
          bytes: bodies.bodyOf(body),
          ...input.putOptions(putOptions, body)
        }),
        ({ bytes, condition, contentType, id, metadata, size }) =>
          Effect.gen(function* () {
            yield* need("put with ifAbsent", "putIfAbsent", condition._tag === "IfAbsent")
            yield* need("put with ifMatch", "putIfMatch", condition._tag === "IfMatch")
            const { sizeMax } = capabilities
            const bound = condition._tag === "Always" ? sizeMax : Math.min(sizeMax, capabilities.conditionalSizeMax)
            // Not made before it is needed: an error is a stack of calls, and costs as much as a small put.
            const tooLarge = () =>
              bound < sizeMax
                ? new Unsupported({ operation: "put", why: `on a condition it takes ${bound} bytes at most` })
                : new ObjectTooLarge({ ...id, sizeMax })
            if (size !== null && size > bound) return yield* tooLarge()
            const summing = new checksums.Summing()
            // A small one that is at hand takes the short way: setting up a Stream costs more than writing it.
            const toWrite =
              body instanceof Uint8Array && body.byteLength <= checksums.chunkBytes
                ? Effect.succeed(bodies.summedWhole(body, summing))
                : Effect.map(Effect.context<R>(), (context) =>
                    Stream.provideContext(bodies.summed(bytes, summing, size, bound, tooLarge), context)
                  )
            let sums = ""
            const written = yield* encoded.put(
              {
                ...id,
                contentType,
                metadata,
                size,
                keyId: null,
                writeId: Uuid.v7(nowMs),
                modifiedAt: nowMs,
                finish: () => {
                  sums = summing.text()
                  return { checksums: sums }
                }
              },
              yield* toWrite,
              condition
            )
            const info = {
              ...id,
              size: summing.size,
              contentType,
              metadata: JSON.parse(metadata),
              sha256: sums.slice(0, 64)
            }
            return yield* outcome(info, condition, written)
          })
      )
    )

  const copied = (from: ObjectId, to: ObjectId, copyOptions: ReturnType<typeof input.copyOptions>, nowMs: number) =>
    Effect.gen(function* () {
      const { contentType, ifAbsent, metadata } = copyOptions
      yield* need("copy with ifAbsent", "copyIfAbsent", ifAbsent)
      const source = yield* open(from)
      if (source === null) return yield* new NotFound({ what: `${from.bucket}/${from.name}` })
      // What cannot be read is not copied.
      const info = yield* decode(source)
      const condition: Condition = ifAbsent ? { _tag: "IfAbsent" } : always
      const written = yield* encoded.copy(
        source.object,
        {
          ...to,
          contentType: contentType ?? source.object.contentType,
          metadata: metadata ?? source.object.metadata,
          keyId: source.object.keyId,
          checksums: source.object.checksums,
          writeId: Uuid.v7(nowMs),
          modifiedAt: nowMs
        },
        condition
      )
      // Refused for the source, or for what is there already.
      if (written._tag === "Refused" && !(ifAbsent && (yield* isThere(to)))) return yield* new ObjectChanged(from)
      const changed = {
        ...info,
        ...to,
        contentType: contentType ?? info.contentType,
        metadata: metadata === undefined ? info.metadata : JSON.parse(metadata)
      }
      return { source: source.object, info: yield* outcome(changed, condition, written) }
    })

  const copy = (operation: string, ...[from, to, copyOptions]: Parameters<DataStoreShape["copy"]>) =>
    observe.write(operation, (nowMs) =>
      checked(
        () => ({
          from: input.objectId(from, capabilities, "from"),
          to: input.objectId(to, capabilities, "to"),
          given: input.copyOptions(copyOptions)
        }),
        ({ from, given, to }) => Effect.map(copied(from, to, given, nowMs), (done) => ({ ...done, from, to }))
      )
    )

  const deleted = (
    id: ObjectId,
    ifMatch: string | null
  ): Effect.Effect<boolean, NotFound | ObjectChanged | ObjectCorrupt | StoreFailure> =>
    Effect.flatMap(
      encoded.delete(id, ifMatch),
      (found): Effect.Effect<boolean, NotFound | ObjectChanged> =>
        found === "NoBucket"
          ? Effect.fail(noBucket(id.bucket))
          : found === "Refused"
            ? Effect.fail(new ObjectChanged(id))
            : Effect.succeed(found)
    )

  const presign =
    (method: "get" | "put") =>
    (object: ObjectId, presignOptions?: PresignOptions): ReturnType<Presign["get"]> =>
      checked(
        () => ({
          id: presignable(input.objectId(object, capabilities)),
          seconds: input.presignSeconds(presignOptions)
        }),
        ({ id, seconds }): Effect.Effect<string, Unsupported | ReadFailure> =>
          encoded.presign === null
            ? Effect.fail(new Unsupported({ operation: `presign.${method}`, why: `${backend} has no URLs` }))
            : encoded.presign(method, id, seconds)
      )

  const listed = (bucket: string) =>
    encoded.list(bucket, { prefix: "", delimiter: null, after: "", limit: Number.MAX_SAFE_INTEGER })

  return {
    capabilities,
    put,

    get: (object) => get("get", object, () => everything),

    getRange: (object, range) => get("getRange", object, () => input.range(range)),

    head: (object) =>
      observe.effect("head", () =>
        checked(
          () => input.objectId(object, capabilities),
          (id) =>
            Effect.flatMap(open(id), (found) => (found === null ? Effect.succeedNone : Effect.asSome(decode(found))))
        )
      ),

    copy: (from, to, copyOptions) => Effect.map(copy("copy", from, to, copyOptions), ({ info }) => info),

    move: (source, target, copyOptions) =>
      Effect.flatMap(copy("move", source, target, copyOptions), ({ from, info, source, to }) =>
        from.bucket === to.bucket && from.name === to.name
          ? Effect.succeed(info)
          : Effect.as(deleted(from, capabilities.deleteIfMatch ? source.etag : null), info).pipe(
              // What has taken its place is another object, and stays.
              Effect.catchTag("ObjectChanged", () => Effect.succeed(info))
            )
      ),

    delete: (object, deleteOptions) =>
      observe.write("delete", () =>
        checked(
          () => ({ id: input.objectId(object, capabilities), ifMatch: input.deleteOptions(deleteOptions) }),
          ({ id, ifMatch }) =>
            Effect.zipRight(need("delete with ifMatch", "deleteIfMatch", ifMatch !== null), deleted(id, ifMatch))
        )
      ),

    deleteMany: (bucket, names) =>
      observe.write("deleteMany", () =>
        checked(
          () => ({ bucket: input.bucket(bucket, capabilities), names: [...new Set(input.names(names))] }),
          ({ bucket, names }) =>
            Effect.map(
              Effect.forEach(names, (name) => deleted({ bucket, name }, null), { concurrency: deletesAtOnce }),
              (found) => found.filter((was) => was).length
            )
        )
      ),

    list: (bucket, listOptions) =>
      observe.stream("list", () =>
        Stream.unwrap(
          checked(
            () => ({ bucket: input.bucket(bucket, capabilities), request: input.listOptions(listOptions) }),
            ({ bucket, request }) =>
              Effect.succeed(Stream.take(Stream.map(encoded.list(bucket, request), decodeEntry), request.limit))
          )
        )
      ),

    count: (bucket, countOptions) =>
      observe.effect("count", () =>
        checked(
          () => ({ bucket: input.bucket(bucket, capabilities), request: input.countOptions(countOptions) }),
          ({ bucket, request }) => Stream.runCount(encoded.list(bucket, request))
        )
      ),

    buckets: {
      create: (bucket, bucketOptions) =>
        observe.write("buckets.create", (nowMs) =>
          checked(
            () => ({ name: input.bucket(bucket, capabilities), given: input.bucketOptions(bucketOptions) }),
            ({ given, name }) =>
              need("a bucket with a region", "region", given.region !== undefined).pipe(
                Effect.zipRight(need("a public bucket", "public", given.public === true)),
                Effect.zipRight(need("a bucket with object locking", "objectLocking", given.objectLocking === true)),
                Effect.zipRight(encoded.createBucket(name, given, nowMs))
              )
          )
        ),
      delete: (bucket) =>
        observe.write("buckets.delete", () => checked(() => input.bucket(bucket, capabilities), encoded.deleteBucket)),
      exists: (bucket) =>
        observe.effect("buckets.exists", () => checked(() => input.bucket(bucket, capabilities), encoded.bucketExists)),
      list: observe.effect("buckets.list", () =>
        Effect.map(encoded.buckets, (buckets) =>
          buckets
            .map(({ createdAt, name }) => ({ name, createdAt: utc(createdAt) }))
            .sort((a, b) => (a.name < b.name ? -1 : 1))
        )
      )
    },

    presign: {
      get: (object, presignOptions) => observe.effect("presign.get", () => presign("get")(object, presignOptions)),
      put: (object, presignOptions) => observe.write("presign.put", () => presign("put")(object, presignOptions))
    },

    info: observe.effect("info", () =>
      Effect.gen(function* () {
        const buckets = yield* encoded.buckets
        let objects = 0
        let bytes = 0
        let lastMs = Number.NEGATIVE_INFINITY
        for (const { name } of buckets) {
          yield* Stream.runForEach(
            listed(name),
            (entry) =>
              Effect.sync(() => {
                if (entry._tag === "Prefix") return
                objects++
                bytes += entry.size
                lastMs = Math.max(lastMs, entry.modifiedAt)
              })
            // A bucket that was deleted meanwhile has none.
          ).pipe(Effect.catchTag("NotFound", () => Effect.void))
        }
        return {
          backend,
          connection,
          readOnly: options.readOnly ?? false,
          buckets: buckets.length,
          objects,
          bytes,
          lastModified: objects === 0 ? Option.none() : Option.some(utc(lastMs))
        }
      })
    ),

    sweep: (sweepOptions) => observe.write("sweep", () => checked(() => input.sweepAgeMs(sweepOptions), encoded.sweep)),

    reset: observe.write("reset", () => encoded.reset)
  }
}

const noBucket = (bucket: string): NotFound => new NotFound({ what: `bucket ${bucket}` })

/** Whoever uses a URL first resolves the dots in its path, and then the signature is that of another object. */
const presignable = (id: ObjectId): ObjectId =>
  id.name.split("/").some((part) => part === "." || part === "..")
    ? refuse("object.name", "cannot be presigned: URLs have no parts . and ..")
    : id

const decodeEntry = (entry: EncodedEntry): Entry => {
  if (entry._tag === "Prefix") return entry
  const { etag, modifiedAt, name, size } = entry
  return { _tag: "Object", name, size, etag, modifiedAt: utc(modifiedAt) }
}

const decode = ({ isVerified = false, object }: OpenObject): Effect.Effect<ObjectInfo, ObjectCorrupt> => {
  const { bucket, contentType, etag, modifiedAt, name, size } = object
  const corrupt = (why: string) => Effect.fail(new ObjectCorrupt({ bucket, name, why }))
  if (object.keyId !== null) return corrupt(`is sealed with key ${object.keyId}, and the store was opened without keys`)
  const sums = object.checksums === null ? null : checksums.parse(object.checksums, size, isVerified)
  if (sums === undefined) return corrupt("has checksums of a body of another size")
  let metadata: unknown
  try {
    metadata = object.metadata === "" ? {} : JSON.parse(object.metadata)
  } catch {
    return corrupt("has metadata that is no JSON")
  }
  return Effect.succeed({
    bucket,
    name,
    size,
    contentType,
    metadata: metadata as ObjectInfo["metadata"],
    sha256: sums?.sha256,
    etag,
    modifiedAt: utc(modifiedAt)
  })
}
