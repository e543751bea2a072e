/**
 * What is in a bucket's folder. The names are those of the files, and everything else of an object is at the end of its
 * file. What is damaged there is in the list like everything else, with what the system knows of it, as it is on other
 * backends, which do not look at the bytes: whoever opens it is told.
 */
import * as path from "node:path"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { ObjectCorrupt, type ObjectId } from "../../DataStore.js"
import {
  compareNames,
  type Encoded,
  type EncodedEntry,
  type EncodedObject,
  entriesOf
} from "../../dataStore/DataStoreEncoded.js"
import { NotFound, type ReadFailure } from "../../Errors.js"
import { fileNameOf, nameOf } from "./fileNames.js"
import * as files from "./files.js"

/** Files that a list looks into at once. */
const looksAtOnce = 16

interface Folder {
  readonly folderOf: (bucket: string) => string
  readonly fileOf: (id: ObjectId) => string
  readonly isFolder: (folder: string) => Promise<boolean>
  /** Throws `ObjectCorrupt` for what is none of this store's files, or not whole. */
  readonly lookAt: (at: string, id: ObjectId) => Promise<{ readonly object: EncodedObject } | undefined>
}

export const make = ({ fileOf, folderOf, isFolder, lookAt }: Folder): Encoded["list"] => {
  const objectAt = async (at: string, id: ObjectId): Promise<EncodedObject | ObjectCorrupt | undefined> => {
    try {
      return (await lookAt(at, id))?.object
    } catch (error) {
      if (error instanceof ObjectCorrupt) return error
      throw error
    }
  }

  /** The names in a bucket, in order, and a file whose name only its damaged end knew; undefined without a bucket. */
  const rowsIn = async (bucket: string) => {
    const folder = folderOf(bucket)
    if (!(await isFolder(folder))) return undefined
    const rows: Array<{ readonly name: string }> = []
    let unnamed: ObjectCorrupt | undefined
    for (const file of await files.readdir(folder)) {
      const row = nameOf(file)
      if (row === undefined) continue
      if (row !== "hashed") {
        rows.push(row)
        continue
      }
      const found = await objectAt(path.join(folder, file), { bucket, name: file })
      if (found instanceof ObjectCorrupt) {
        const why = "is a file that was cut off or changed, and with it the long name of its object"
        unnamed = new ObjectCorrupt({ bucket, name: file, why })
      } else if (found !== undefined && fileNameOf(found.name) === file) rows.push(found)
    }
    return { rows: rows.sort((a, b) => compareNames(a.name, b.name)), unnamed }
  }

  const entryAt = async (id: ObjectId): Promise<EncodedEntry | undefined> => {
    const found = await objectAt(fileOf(id), id)
    if (found === undefined) return undefined
    if (!(found instanceof ObjectCorrupt)) {
      const { etag, keyId, modifiedAt, name, size } = found
      return { _tag: "Object", name, size, etag, modifiedAt, keyId }
    }
    const stats = await files.ifThere(files.lstat(fileOf(id)))
    if (stats === undefined || stats.isDirectory()) return undefined
    const { ino, mtimeMs, size } = stats
    const modifiedAt = Math.floor(mtimeMs)
    return { _tag: "Object", name: id.name, size, etag: `${ino}-${modifiedAt}`, modifiedAt, keyId: undefined }
  }

  return (bucket, request) =>
    Stream.unwrap(
      Effect.gen(function* () {
        const found = yield* files.attemptRead("list", () => rowsIn(bucket))
        if (found === undefined) return yield* new NotFound({ what: `bucket ${bucket}` })
        return Stream.fromIterable(entriesOf(found.rows, request)).pipe(
          Stream.take(request.limit),
          Stream.mapEffect(
            (entry): Effect.Effect<EncodedEntry | undefined, ReadFailure> =>
              entry._tag === "Prefix"
                ? Effect.succeed(entry)
                : files.attemptRead("list", () => entryAt({ bucket, name: entry.row.name })),
            { concurrency: Math.min(looksAtOnce, request.limit) }
          ),
          Stream.filter((entry) => entry !== undefined),
          // After all others: it stops nobody before them, and is not left out in silence.
          Stream.concat(found.unnamed === undefined ? Stream.empty : Stream.fail(found.unnamed))
        )
      })
    )
}
