/**
 * What the errors of the driver, the server and the socket mean, as the errors of the stores.
 */
import Pg from "pg"
import { CommitOutcomeUnknown, StoreError, type StoreFailure, StoreUnavailable } from "../../Errors.js"
import { OpenFailure } from "../../sql/ConnectionPool.js"

/** What an error means for the caller: a read changed nothing; a write that lost its connection may have happened. */
export type QueryKind = "read" | "write"

export const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" ? cause.code : ""

/** The server's code in the cause of a failure. */
export const sqlStateOf = (failure: StoreFailure): string => ("cause" in failure ? codeOf(failure.cause) : "")

/** The server is full, starting up or shutting down. */
const busyServer = new Set(["53300", "57P03"])

/** `known`: a host that was found before is not a wrong name, but a failure of the name service. */
export const openFailure = (cause: unknown, known: boolean): OpenFailure => {
  const code = codeOf(cause)
  const operation = "connecting"
  // A wrong password, database or name of a host stays wrong.
  const wrong = /^(28|3D|42|22)/.test(code) || (code === "ENOTFOUND" && !known)
  return new OpenFailure(
    wrong ? new StoreError({ operation, cause }) : new StoreUnavailable({ operation, retryable: true, cause }),
    busyServer.has(code)
  )
}

/** Deadlock, serialization failure, lock and statement timeout, out of resources: undone, and worth another try. */
const transient = new Set(["40001", "40P01", "55P03", "57014", "25006", "25P03"])

/**
 * A prepared statement that the server has no more, because the user's own SQL has thrown all away (`discard all`). The
 * driver takes it for prepared for as long as the connection lives; nothing has happened.
 */
export const statementLost = "26000"

const isConnectionLoss = (cause: unknown, code: string): boolean =>
  // The driver's own errors for a lost connection have no code, and Node's have names: EPIPE looks like an SQLSTATE.
  !(cause instanceof Pg.DatabaseError) || code.startsWith("08") || code.startsWith("57P")

export const classify = (
  cause: unknown,
  kind: QueryKind,
  operation: string
): StoreUnavailable | StoreError | CommitOutcomeUnknown => {
  const code = codeOf(cause)
  if (transient.has(code) || code.startsWith("53") || code === statementLost) {
    return new StoreUnavailable({ operation, retryable: true, cause })
  }
  // A driver's refusal of the parameters is an error without a code as well, but it is no loss of a connection.
  if (cause instanceof TypeError || cause instanceof RangeError) return new StoreError({ operation, cause })
  if (isConnectionLoss(cause, code)) {
    return kind === "write"
      ? new CommitOutcomeUnknown({ operation, cause })
      : new StoreUnavailable({ operation, retryable: true, cause })
  }
  return new StoreError({ operation, cause })
}
