/**
 * The calls to the file system that the DataStore makes, and what their failures mean. None is interruptible: a file
 * that was closed under a running write would have the write go to whoever gets its number next.
 */
import * as fs from "node:fs"
import { promisify } from "node:util"
import * as Effect from "effect/Effect"
import {
  CommitOutcomeUnknown,
  type ReadFailure,
  StoreError,
  type StoreFailure,
  StoreUnavailable
} from "../../Errors.js"

/** By callbacks underneath: the handles of `fs/promises` cost as much as a small read. */
export const open = promisify(fs.open)
export const close = promisify(fs.close)
export const fsync = promisify(fs.fsync)
export const rename = promisify(fs.rename)
export const link = promisify(fs.link)
export const unlink = promisify(fs.unlink)
export const mkdir = promisify(fs.mkdir)
export const rmdir = promisify(fs.rmdir)
export const readdir = promisify(fs.readdir)
export const lstat = promisify(fs.lstat)
export const futimes = promisify(fs.futimes)
export const rm = promisify(fs.rm)
export const realpath = promisify(fs.realpath)

export const fstat = (file: number): Promise<fs.BigIntStats> =>
  new Promise((resolve, reject) =>
    fs.fstat(file, { bigint: true }, (error, stats) => (error === null ? resolve(stats) : reject(error)))
  )

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = fs.constants

export const reading = O_RDONLY | O_NOFOLLOW
export const creating = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW

/** Reads until `bytes` is full or the file ends; returns how many. */
export const readFully = async (file: number, bytes: Uint8Array, position: number): Promise<number> => {
  let filled = 0
  while (filled < bytes.byteLength) {
    const count = await new Promise<number>((resolve, reject) =>
      fs.read(file, bytes, filled, bytes.byteLength - filled, position + filled, (error, count) =>
        error === null ? resolve(count) : reject(error)
      )
    )
    if (count === 0) break
    filled += count
  }
  return filled
}

/** A write may take a part only, as it does where the disk becomes full. */
export const writeFully = async (file: number, bytes: Uint8Array, position: number): Promise<void> => {
  let written = 0
  while (written < bytes.byteLength) {
    written += await new Promise<number>((resolve, reject) =>
      fs.write(file, bytes, written, bytes.byteLength - written, position + written, (error, count) =>
        error === null ? resolve(count) : reject(error)
      )
    )
  }
}

/** Makes what was renamed, linked or removed in a folder last. */
export const syncFolder = async (folder: string): Promise<void> => {
  const file = await open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
  try {
    await fsync(file)
  } finally {
    await close(file)
  }
}

export const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : ""

export const isMissing = (error: unknown): boolean => codeOf(error) === "ENOENT"

/** `undefined` when there is nothing of that name. */
export const ifThere = async <A>(found: Promise<A>): Promise<A | undefined> => {
  try {
    return await found
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

/** What may pass: a full disk, files that others have open, a network that is gone. */
const passing = new Set([
  ...["EAGAIN", "EBUSY", "EDQUOT", "EINTR", "EIO", "EMFILE", "ENFILE", "ENOBUFS", "ENOLCK", "ENOMEM", "ENOSPC"],
  ...["ESTALE", "ETIMEDOUT"]
])

const readFailure = (operation: string, error: unknown): ReadFailure =>
  error instanceof StoreUnavailable || error instanceof StoreError
    ? error
    : passing.has(codeOf(error))
      ? new StoreUnavailable({ operation, retryable: true, cause: error })
      : new StoreError({ operation, cause: error })

const failure = (operation: string, error: unknown): StoreFailure =>
  error instanceof CommitOutcomeUnknown ? error : readFailure(operation, error)

const attempting =
  <E>(failed: (operation: string, error: unknown) => E) =>
  <A>(operation: string, run: () => Promise<A>): Effect.Effect<A, E> =>
    Effect.uninterruptible(Effect.tryPromise({ try: run, catch: (error) => failed(operation, error) }))

/** Runs to its end whatever happens to the fiber. */
export const attempt = attempting(failure)

/** The same for what only reads. */
export const attemptRead = attempting(readFailure)
