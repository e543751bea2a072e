/**
 * What the errors of SQLite and of the file mean, as the errors of the stores. One table covers them; the functions
 * below only look them up.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { CommitOutcomeUnknown, isStoreFailure, StoreError, type StoreFailure, StoreUnavailable } from "../../Errors.js"

/**
 * - `busy`: another connection holds a lock, or has written since this transaction's snapshot. Nothing has happened;
 *   the caller waits and retries, up to `acquireTimeout`.
 * - `disk`: the statement is undone and may succeed later, and nothing that the connection holds in memory can be
 *   trusted. It is unknown whether a COMMIT has happened, unless the disk was full.
 * - `passing`: undone, and worth another attempt.
 * - `final`: the same statement fails again.
 */
type Meaning = "busy" | "disk" | "passing" | "final"

/** By extended result code, or by the primary code that it begins with. */
const meanings: Readonly<Record<string, Meaning>> = {
  SQLITE_ABORT: "final",
  SQLITE_AUTH: "final",
  SQLITE_BUSY: "busy",
  SQLITE_CANTOPEN: "passing", // no more files can be open, or a directory is gone for a while
  SQLITE_CANTOPEN_ISDIR: "final",
  SQLITE_CONSTRAINT: "final",
  SQLITE_CORRUPT: "final",
  SQLITE_EMPTY: "final",
  SQLITE_ERROR: "final",
  SQLITE_FORMAT: "final",
  SQLITE_FULL: "disk",
  SQLITE_INTERNAL: "final",
  SQLITE_INTERRUPT: "passing",
  SQLITE_IOERR: "disk",
  SQLITE_LOCKED: "busy",
  SQLITE_MISMATCH: "final",
  SQLITE_MISUSE: "final",
  SQLITE_NOLFS: "final",
  SQLITE_NOMEM: "passing",
  SQLITE_NOTADB: "final",
  SQLITE_NOTFOUND: "final",
  SQLITE_PERM: "final",
  SQLITE_PROTOCOL: "busy", // others have been opening and closing the log for too long
  SQLITE_RANGE: "final",
  SQLITE_READONLY: "final",
  SQLITE_READONLY_CANTLOCK: "passing", // the log waits for somebody who may write to recover it
  SQLITE_READONLY_RECOVERY: "passing",
  SQLITE_SCHEMA: "passing", // others have changed the tables again and again
  SQLITE_TOOBIG: "final"
}

/** A file that was moved, deleted or replaced while it was open. */
export const movedAway = (file: string): Error => new Error(`${file} was moved, deleted or replaced while it was open`)

export const codeOf = (error: unknown): string => {
  const { cause } = error instanceof CommitOutcomeUnknown ? error : { cause: error }
  return cause instanceof Sqlite.SqliteError ? cause.code : ""
}

const meaningOf = (error: unknown): Meaning => {
  const code = codeOf(error)
  return meanings[code] ?? meanings[code.split("_", 2).join("_")] ?? "final"
}

export const isBusy = (error: unknown): boolean => meaningOf(error) === "busy"

export const isConstraint = (error: unknown): boolean => codeOf(error).startsWith("SQLITE_CONSTRAINT")

export const isDiskFailure = (error: unknown): boolean => meaningOf(error) === "disk"

/** A thrown value as one of the errors of the stores. */
export const failure = (operation: string, error: unknown): StoreFailure => {
  if (isStoreFailure(error)) return error
  return meaningOf(error) === "final"
    ? new StoreError({ operation, cause: error })
    : new StoreUnavailable({ operation, retryable: true, cause: error })
}

/**
 * SQLite says only that it could not open or write a file, and not which one: in WAL mode it needs two more beside it,
 * even to read.
 */
export const explained = (filename: string, error: unknown): unknown => {
  if (!/^SQLITE_(READONLY|CANTOPEN)/.test(codeOf(error)) || !fs.existsSync(filename)) return error
  const directory = path.dirname(filename)
  try {
    fs.accessSync(directory, fs.constants.W_OK)
    return error
  } catch {
    const why = "in WAL mode SQLite needs a directory that it can write to, for the files -wal and -shm, also to read"
    return new Error(`${why}: ${directory} is not writable for this process`, { cause: error })
  }
}

/**
 * Throws if opening the file would leave a log that keeps its owner from writing: the first process to open the file
 * creates -wal and -shm and owns them, with the permissions of the file.
 */
export const checkOwner = (filename: string): void => {
  const user = process.geteuid?.()
  const stats = fs.statSync(filename, { throwIfNoEntry: false })
  // As root, SQLite gives the log to the owner of the file, and root needs no permission.
  if (user === undefined || user === 0 || stats === undefined || stats.uid === user || stats.uid === 0) return
  const ownerWrites = (stats.mode & 0o200) !== 0
  const othersWrite = (stats.mode & 0o022) !== 0
  if (!ownerWrites || othersWrite || fs.existsSync(`${filename}-shm`)) return
  throw new Error(
    `${filename} belongs to another user, who could not write to the log that opening it would leave: ` +
      "open it as its owner, or while the owner has it open, or let a group of both write to it"
  )
}
