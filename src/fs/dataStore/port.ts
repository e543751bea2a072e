/**
 * The DataStore's port on a folder: `objects/<bucket>/<file>`, `incoming/<write id>` for what is being written, and
 * `notes/` for what a layer that seals keeps.
 *
 * A write goes to a file of its own in `incoming`, which is synced and then renamed into its place (linked, if there
 * must be none yet), and then the folder is synced: it is there whole or not at all, and after a power cut too.
 * Renaming by one call of the system is what makes a put atomic; syncing the file before it is what keeps the name from
 * getting there before the bytes.
 */
import * as path from "node:path"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type BodyError, BucketNotEmpty, ObjectChanged, ObjectCorrupt, type ObjectId } from "../../DataStore.js"
import type { Condition, Encoded, EncodedObject, OpenObject, Written } from "../../dataStore/DataStoreEncoded.js"
import { CommitOutcomeUnknown, type ReadFailure, StoreError, type StoreFailure } from "../../Errors.js"
import { alongside } from "../../internal/fibers.js"
import * as Uuid from "../../Uuid.js"
import { fileNameOf } from "./fileNames.js"
import * as files from "./files.js"
import * as format from "./format.js"
import * as Listing from "./listing.js"

/** Half of what a double counts exactly: offsets are added to. */
const sizeMax = 2 ** 52

/** Read at once, while what was read before is used. */
const readBytes = 1024 * 1024

/** So much of a large body is synced while more of it comes: the disk works all the time, and not at the end only. */
const syncBytes = 32 * 1024 * 1024

/** Less than a tenth of the least age of what is swept. */
const touchEvery = "1 minute"

/** Which file it was: another one in its place has another number, or was written at another time. */
interface Version {
  readonly ino: bigint
  readonly mtimeNs: bigint
  readonly size: bigint
}

interface Found extends Version {
  readonly object: EncodedObject
  /** All of the body, of a small object. */
  readonly inline: Buffer | undefined
}

interface Folder {
  readonly root: string
  /** Whether what is written is synced. */
  readonly sync: boolean
}

export const make = ({ root, sync }: Folder): Encoded => {
  const objects = path.join(root, "objects")
  const incoming = path.join(root, "incoming")
  const notes = path.join(root, "notes")
  const folderOf = (bucket: string) => path.join(objects, bucket)
  const fileOf = ({ bucket, name }: ObjectId) => path.join(folderOf(bucket), fileNameOf(name))

  /** Whether there is such a folder. What somebody has put a symbolic link in the place of is never gone into. */
  const isFolder = async (folder: string): Promise<boolean> => {
    const stats = await files.ifThere(files.lstat(folder))
    if (stats === undefined || stats.isDirectory()) return stats !== undefined
    throw new StoreError({
      operation: "opening a folder",
      cause: new Error(`${folder} is no folder, or a link to one`)
    })
  }

  const corrupt = ({ bucket, name }: ObjectId, why: string) => new ObjectCorrupt({ bucket, name, why })

  /** The object in an open file. Throws `ObjectCorrupt`. */
  const look = async (file: number, id: ObjectId): Promise<Found> => {
    const stats = await files.fstat(file)
    if (!stats.isFile()) throw corrupt(id, "is no file of this store")
    const { ino, mtimeNs, size } = stats
    const bytes = Number(size)
    let tail = Buffer.allocUnsafe(Math.min(bytes, format.tailBytes))
    await files.readFully(file, tail, bytes - tail.byteLength)
    const needed = format.trailerBytes(tail)
    if (needed !== undefined && needed > tail.byteLength && needed <= bytes) {
      tail = Buffer.allocUnsafe(needed)
      await files.readFully(file, tail, bytes - needed)
    }
    const object = format.parse(tail, bytes)
    if (object === undefined) throw corrupt(id, "is no file of this store, or was cut off")
    const inline =
      object.size <= tail.byteLength && bytes === tail.byteLength ? tail.subarray(0, object.size) : undefined
    return { ino, mtimeNs, size, object, inline }
  }

  /** The object in the file at that path; undefined when there is none. */
  const lookAt = async (at: string, id: ObjectId): Promise<Found | undefined> => {
    let file: number | undefined
    try {
      file = await files.ifThere(files.open(at, files.reading))
    } catch (error) {
      if (files.codeOf(error) === "ELOOP") throw corrupt(id, "is a symbolic link, and no file of this store")
      throw error
    }
    if (file === undefined) return undefined
    try {
      return await look(file, id)
    } finally {
      await files.close(file)
    }
  }

  /** Of what looks into files, and throws `ObjectCorrupt` for what is none of this store's. */
  const attemptLook = <A>(operation: string, run: () => Promise<A>): Effect.Effect<A, ReadFailure | ObjectCorrupt> =>
    Effect.flatMap(
      files.attemptRead(operation, () =>
        run().then(
          (value) => Effect.succeed(value),
          (error: unknown) => {
            if (error instanceof ObjectCorrupt) return Effect.fail(error)
            throw error
          }
        )
      ),
      (looked): Effect.Effect<A, ObjectCorrupt> => looked
    )

  const open = (id: ObjectId): Effect.Effect<OpenObject | "NoBucket" | null, ReadFailure | ObjectCorrupt> =>
    attemptLook("open", async () => {
      if (!(await isFolder(folderOf(id.bucket)))) return "NoBucket"
      const found = await lookAt(fileOf(id), id)
      if (found === undefined) return null
      const { object, inline } = found
      // The name is in the file: what lies here under another one was put here by somebody else.
      if (object.name !== id.name || object.bucket !== id.bucket) throw corrupt(id, "is the file of another object")
      if (inline === undefined) return { object, read: (offset, length) => readFrom(id, found, offset, length) }
      const read = (offset: number, length: number) =>
        Stream.sync(() => Uint8Array.prototype.slice.call(inline, offset, offset + length))
      return { object, read: Object.assign(read, { inline }) }
    })

  /** Opens the file, if it is still the same. */
  const opened = (id: ObjectId, version: Version) =>
    Effect.acquireRelease(
      Effect.flatMap(
        files.attemptRead("read", async () => {
          const file = await files.ifThere(files.open(fileOf(id), files.reading))
          if (file === undefined) return undefined
          const { ino, mtimeNs, size } = await files.fstat(file)
          if (ino === version.ino && mtimeNs === version.mtimeNs && size === version.size) return file
          await files.close(file)
          return undefined
        }),
        (file): Effect.Effect<number, ObjectChanged> =>
          file === undefined
            ? Effect.fail(new ObjectChanged({ bucket: id.bucket, name: id.name }))
            : Effect.succeed(file)
      ),
      (file) => Effect.ignore(files.attempt("close", () => files.close(file)))
    )

  const readFrom = (
    id: ObjectId,
    version: Version,
    offset: number,
    length: number
  ): Stream.Stream<Uint8Array, BodyError> =>
    Stream.unwrapScoped(
      Effect.map(opened(id, version), (file) => {
        const end = offset + length
        const next = (at: number): Effect.Effect<Uint8Array, ReadFailure> =>
          files.attemptRead("read", async () => {
            const bytes = Buffer.allocUnsafeSlow(Math.min(readBytes, end - at))
            return bytes.subarray(0, await files.readFully(file, bytes, at))
          })
        return Stream.paginateChunkEffect(offset, (at) =>
          at >= end
            ? Effect.succeed([Chunk.empty<Uint8Array>(), Option.none<number>()] as const)
            : Effect.map(next(at), (bytes) => {
                const more = bytes.byteLength > 0 && at + bytes.byteLength < end
                return [Chunk.of(bytes), more ? Option.some(at + bytes.byteLength) : Option.none()] as const
              })
        )
      })
    )

  /**
   * A file in `incoming` while `use` writes it, which gives the object that it then holds; what ends `use` otherwise,
   * or comes before the file is in its place, removes it. `use` is told where the file is, and when to write to it.
   */
  const writing = <E>(
    operation: string,
    id: ObjectId,
    writeId: string,
    condition: Condition,
    use: (file: number) => Effect.Effect<format.Trailer, E | StoreFailure>
  ): Effect.Effect<Written, E | StoreFailure> => {
    const temporary = path.join(incoming, writeId)
    const target = fileOf(id)
    let isInPlace = false
    /** Called in the same breath as what comes before it: from here on nothing interrupts. */
    const finish = (file: number, object: format.Trailer) =>
      files.attempt(operation, async (): Promise<Written> => {
        await files.writeFully(file, format.trailer(object), object.size)
        if (sync) await files.fsync(file)
        if (!(await isFolder(folderOf(id.bucket)))) return { _tag: "NoBucket" }
        try {
          if (condition._tag === "IfAbsent") await files.link(temporary, target)
          else {
            await files.rename(temporary, target)
            isInPlace = true
          }
        } catch (error) {
          if (files.codeOf(error) === "EEXIST") return { _tag: "Refused" }
          // A bucket that was deleted since.
          if (files.isMissing(error)) {
            if (await files.ifThere(files.lstat(temporary))) return { _tag: "NoBucket" }
            throw new StoreError({ operation: "put", cause: new Error("what was being written was swept away") })
          }
          throw error
        }
        if (sync) {
          await files.syncFolder(folderOf(id.bucket)).catch((cause: unknown) => {
            // It is there, and may be gone after a power cut; and in that moment the bucket may be gone as well.
            throw new CommitOutcomeUnknown({ operation: "put", cause })
          })
        }
        return { _tag: "Stored", etag: object.writeId, modifiedAt: object.modifiedAt }
      })
    return Effect.acquireUseRelease(
      files.attempt(operation, async () => {
        isInPlace = false
        const [found, ready] = await Promise.all([isFolder(folderOf(id.bucket)), isFolder(incoming)])
        if (!found) return undefined
        if (!ready) await files.mkdir(incoming)
        return files.open(temporary, files.creating)
      }),
      (file): Effect.Effect<Written, E | StoreFailure> =>
        file === undefined
          ? Effect.succeed({ _tag: "NoBucket" })
          : Effect.flatMap(use(file), (object) => finish(file, object)),
      (file) =>
        file === undefined
          ? Effect.void
          : Effect.ignore(
              files.attempt(operation, async () => {
                await files.close(file)
                if (!isInPlace) await files.ifThere(files.unlink(temporary))
              })
            )
    )
  }

  /** Tells sweepers of other processes that somebody is at it, also when the body keeps it waiting. */
  const touching = (file: number) =>
    Effect.forever(
      Effect.delay(
        Effect.ignore(
          files.attempt("put", () => {
            const now = Date.now() / 1000
            return files.futimes(file, now, now)
          })
        ),
        touchEvery
      )
    )

  /** Writes pieces one after the other; a piece is written while the next one is made. Returns how many bytes. */
  const writePieces = <E>(
    operation: string,
    file: number,
    body: Stream.Stream<Uint8Array, E>
  ): Effect.Effect<number, E | StoreFailure> => {
    let size = 0
    let pending: Promise<void> = Promise.resolve()
    let synced = 0
    let syncing: Promise<void> | undefined
    const written = files.attempt(operation, () => pending)
    // The system tells of a failed write once: whoever synced then must pass it on.
    const ended = files.attempt(operation, () => Promise.all([pending, syncing]))
    return alongside(
      Stream.runForEach(body, (piece) =>
        Effect.map(written, () => {
          pending = files.writeFully(file, piece, size)
          // Seen by who waits for it next.
          pending.catch(() => {})
          size += piece.byteLength
          if (sync && size - synced >= syncBytes) {
            synced = size
            const before = syncing
            syncing = (async () => {
              await before
              await files.fsync(file)
            })()
            syncing.catch(() => {})
          }
        })
      ),
      touching(file)
    ).pipe(
      // Whatever ends it: no write may run on when the file is closed.
      Effect.ensuring(files.attempt(operation, () => Promise.allSettled([pending, syncing])).pipe(Effect.ignore)),
      Effect.zipRight(ended),
      Effect.map(() => size)
    )
  }

  const writeNew = async (at: string, text: string): Promise<void> => {
    const file = await files.open(at, files.creating)
    try {
      await files.writeFully(file, Buffer.from(text), 0)
      if (sync) await files.fsync(file)
    } finally {
      await files.close(file)
    }
  }

  const textOf = async (at: string): Promise<string | undefined> => {
    const file = await files.ifThere(files.open(at, files.reading))
    if (file === undefined) return undefined
    try {
      const { size } = await files.fstat(file)
      const bytes = Buffer.allocUnsafe(Number(size))
      return bytes.toString("utf8", 0, await files.readFully(file, bytes, 0))
    } finally {
      await files.close(file)
    }
  }

  return {
    backend: "FileSystem",
    connection: root,
    capabilities: {
      putIfAbsent: true,
      // By renaming there is no comparing.
      putIfMatch: false,
      copyIfAbsent: true,
      deleteIfMatch: false,
      presign: false,
      region: false,
      public: false,
      objectLocking: false,
      bucketLengthMax: 63,
      sizeMax,
      conditionalSizeMax: sizeMax
    },

    put: ({ finish, size: _, ...object }, body, condition) =>
      writing("put", object, object.writeId, condition, (file) =>
        Effect.map(writePieces("put", file, body), (size) => ({ ...object, size, ...finish() }))
      ),

    open,

    copy: (from, { writeId, ...to }, condition) =>
      Effect.flatMap(
        files.attempt("copy", () => isFolder(folderOf(to.bucket))),
        (found): Effect.Effect<Written, StoreFailure | BodyError> =>
          found
            ? Effect.flatMap(open(from), (source) => {
                if (source === null || source === "NoBucket" || source.object.writeId !== from.writeId) {
                  return Effect.succeed<Written>({ _tag: "Refused" })
                }
                return writing<BodyError>("copy", to, writeId, condition, (file) =>
                  Effect.as(writePieces("copy", file, source.read(0, from.size)), { ...to, writeId, size: from.size })
                )
              })
            : Effect.succeed({ _tag: "NoBucket" })
      ),

    delete: (id) =>
      files.attempt("delete", async () => {
        const folder = folderOf(id.bucket)
        if (!(await isFolder(folder))) return "NoBucket"
        try {
          await files.unlink(fileOf(id))
        } catch (error) {
          if (files.isMissing(error)) return false
          throw error
        }
        if (sync) await files.syncFolder(folder)
        return true
      }),

    list: Listing.make({ fileOf, folderOf, isFolder, lookAt }),

    createBucket: (bucket) =>
      files.attempt("buckets.create", async () => {
        try {
          await files.mkdir(folderOf(bucket))
        } catch (error) {
          if (files.codeOf(error) === "EEXIST") return !(await isFolder(folderOf(bucket)))
          throw error
        }
        if (sync) await files.syncFolder(objects)
        return true
      }),

    deleteBucket: (bucket) =>
      Effect.flatMap(
        files.attempt("buckets.delete", async () => {
          if (!(await isFolder(folderOf(bucket)))) return false
          try {
            await files.rmdir(folderOf(bucket))
          } catch (error) {
            if (files.isMissing(error)) return false
            if (["ENOTEMPTY", "EEXIST"].includes(files.codeOf(error))) return "NotEmpty"
            throw error
          }
          if (sync) await files.syncFolder(objects)
          return true
        }),
        (deleted) => (deleted === "NotEmpty" ? Effect.fail(new BucketNotEmpty({ bucket })) : Effect.succeed(deleted))
      ),

    bucketExists: (bucket) => files.attemptRead("buckets.exists", () => isFolder(folderOf(bucket))),

    buckets: files.attemptRead("buckets.list", async () => {
      const found: Array<{ name: string; createdAt: number }> = []
      for (const name of await files.readdir(objects)) {
        const stats = await files.ifThere(files.lstat(folderOf(name)))
        if (stats?.isDirectory()) found.push({ name, createdAt: Math.floor(stats.birthtimeMs) })
      }
      return found
    }),

    presign: null,

    note: (name, value) =>
      files.attempt("note", async () => {
        const file = path.join(notes, Buffer.from(name).toString("hex"))
        const found = await textOf(file)
        if (found !== undefined || value === null) return found ?? null
        await files.mkdir(notes, { recursive: true })
        // Linked when it is whole; of several that do so one is first, and all return that one's.
        const temporary = path.join(incoming, Uuid.v7(Date.now()))
        await writeNew(temporary, value)
        try {
          await files.link(temporary, file)
        } catch (error) {
          if (files.codeOf(error) !== "EEXIST") throw error
        } finally {
          await files.ifThere(files.unlink(temporary))
        }
        if (sync) for (const folder of [notes, root]) await files.syncFolder(folder)
        return (await textOf(file)) ?? null
      }),

    sweep: (olderThanMs) =>
      files.attempt("sweep", async () => {
        let swept = 0
        for (const name of await files.readdir(incoming)) {
          if (!Uuid.isCanonical(name)) continue
          const file = path.join(incoming, name)
          const stats = await files.ifThere(files.lstat(file))
          if (stats === undefined || !stats.isFile() || stats.mtimeMs > Date.now() - olderThanMs) continue
          await files.ifThere(files.unlink(file))
          swept++
        }
        return swept
      }),

    reset: files.attempt("reset", async () => {
      for (const folder of [objects, incoming]) {
        for (const name of await files.readdir(folder)) {
          await files.rm(path.join(folder, name), { recursive: true, force: true })
        }
      }
    })
  }
}

/** Makes the folders, and that they last; returns where they really are. */
export const prepare = (root: string, sync: boolean): Effect.Effect<string, StoreFailure> =>
  files.attempt(`opening ${root}`, async () => {
    const first = await files.mkdir(root, { recursive: true })
    const real = await files.realpath(root)
    for (const name of ["objects", "incoming"]) {
      await files.mkdir(path.join(real, name)).catch((error: unknown) => {
        if (files.codeOf(error) !== "EEXIST") throw error
      })
    }
    if (!sync) return real
    await files.syncFolder(real)
    // Of every folder that was made on the way, the entry in the one above it.
    if (first !== undefined) {
      for (let made = real; ; made = path.dirname(made)) {
        await files.syncFolder(path.dirname(made))
        if (made === path.resolve(first) || made === path.dirname(made)) break
      }
    }
    return real
  })
