/**
 * What the errors of SQLite and of the file mean, as the errors of the stores.
 */
import Sqlite from "better-sqlite3"
import { CommitOutcomeUnknown, isStoreFailure, StoreError, type StoreFailure, StoreUnavailable } from "../../Errors.js"

/** A file that was moved, deleted or replaced while it was open. */
export const movedAway = (file: string): Error => new Error(`${file} was moved, deleted or replaced while it was open`)

export const codeOf = (error: unknown): string => {
  const { cause } = error instanceof CommitOutcomeUnknown ? error : { cause: error }
  return cause instanceof Sqlite.SqliteError ? cause.code : ""
}

/** Someone else holds a lock, or moved the file on since this transaction's snapshot: try again. */
export const isBusy = (error: unknown): boolean => {
  const code = codeOf(error)
  return code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED") || code === "SQLITE_PROTOCOL"
}

export const isConstraint = (error: unknown): boolean => codeOf(error).startsWith("SQLITE_CONSTRAINT")

export const isDiskFailure = (error: unknown): boolean => {
  const code = codeOf(error)
  return code.startsWith("SQLITE_IOERR") || code === "SQLITE_FULL"
}

/** What was thrown, as one of the errors of the stores. */
export const failure = (operation: string, error: unknown): StoreFailure => {
  if (isStoreFailure(error)) return error
  const unavailable =
    isDiskFailure(error) || codeOf(error).startsWith("SQLITE_CANTOPEN") || codeOf(error) === "SQLITE_NOMEM"
  return unavailable
    ? new StoreUnavailable({ operation, retryable: true, cause: error })
    : new StoreError({ operation, cause: error })
}
