/**
 * What the errors of the driver, the server and the socket mean, as the errors of the stores. One table covers
 * SQLSTATEs and another the codes of sockets; the functions below only look them up.
 */
import Pg from "pg"
import {
  CommitOutcomeUnknown,
  type ReadFailure,
  StoreError,
  type StoreFailure,
  StoreUnavailable
} from "../../Errors.js"
import { hinted, lastingOf } from "../../internal/socketFailures.js"
import { OpenFailure } from "../../sql/ConnectionPool.js"

/** What an error means for the caller: a read changed nothing; a write that lost its connection may have happened. */
export type QueryKind = "read" | "write"

/** How a statement of a kind can fail. */
export type FailureOf<K extends QueryKind> = ReadFailure | (K extends "write" ? CommitOutcomeUnknown : never)

/**
 * - `passing`: undone, and worth another attempt.
 * - `busy`: the same, and while a connection is being opened, waiters keep waiting.
 * - `overdue`: undone, and as long the next time.
 * - `plan`: the statement prepared on this connection can never run again, and nothing has happened. The connection is
 *   given up, and the next attempt prepares the statement again.
 * - `lost`: the connection is gone. It is unknown whether a statement that writes has happened.
 * - `final`: the same statement fails again.
 */
type Meaning = "passing" | "busy" | "overdue" | "plan" | "lost" | "final"

/** By SQLSTATE, or by its class for all that are not named. */
const meanings: Readonly<Record<string, Meaning>> = {
  "03": "final", // SQL statement not yet complete
  "08": "lost", // connection exception
  "09": "final", // triggered action exception
  "0A": "final", // feature not supported; see `planChanged`
  "0B": "final", // invalid transaction initiation
  "0F": "final", // locator exception
  "0L": "final", // invalid grantor
  "0P": "final", // invalid role specification
  "0Z": "final", // diagnostics exception
  "20": "final", // case not found
  "21": "final", // cardinality violation
  "22": "final", // data exception
  "23": "final", // integrity constraint violation
  "24": "final", // invalid cursor state
  "25": "final", // invalid transaction state
  "25006": "passing", // read-only transaction: a standby, until it is promoted
  "25P03": "overdue", // idle in transaction for too long: the session is over, and rolled back
  "25P04": "overdue", // the transaction took too long: the same
  "26": "plan", // invalid statement name: the user's own SQL has thrown all of them away
  "27": "final", // triggered data change violation
  "28": "final", // invalid authorization
  "2B": "final", // dependent privilege descriptors still exist
  "2D": "final", // invalid transaction termination
  "2F": "final", // SQL routine exception
  "34": "final", // invalid cursor name
  "38": "final", // external routine exception
  "39": "final", // external routine invocation exception
  "3B": "final", // savepoint exception
  "3D": "final", // invalid catalog name
  "3F": "final", // invalid schema name
  "40": "passing", // transaction rollback: deadlock, serialization failure
  "40002": "final", // integrity constraint violation at COMMIT
  "40003": "lost", // statement completion unknown
  "42": "final", // syntax error, access rule violation
  "44": "final", // WITH CHECK OPTION violation
  "53": "passing", // insufficient resources
  "53300": "busy", // too many connections
  "53400": "final", // configuration limit exceeded
  "54": "final", // program limit exceeded
  "55": "final", // object not in prerequisite state
  "55006": "passing", // object in use
  "55P03": "passing", // lock not available
  "57": "lost", // operator intervention: the session is over
  "57014": "passing", // query canceled, by its timeout or by an operator
  "57P03": "busy", // cannot connect now: starting up, shutting down, in recovery
  "57P04": "final", // database dropped
  "58": "final", // system error
  "58030": "passing", // I/O error: the statement is undone
  "72": "passing", // snapshot too old
  F0: "final", // configuration file error
  HV: "final", // foreign data wrapper error
  P0: "final", // PL/pgSQL error
  XX: "final" // internal error, corrupted data or index
}

/**
 * A statement was prepared, and then a table changed under it. It shares its SQLSTATE, 0A000, with everything that the
 * server does not support; the name of the raising function tells them apart, in any language.
 */
const planChanged = "RevalidateCachedQuery"

export const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" ? cause.code : ""

/** The server's code in the cause of a failure. */
export const sqlStateOf = (failure: StoreFailure): string => ("cause" in failure ? codeOf(failure.cause) : "")

/**
 * The code of a server's error. The driver's own errors have no code, and Node's have names: EPIPE looks like an
 * SQLSTATE.
 */
const meaningOf = (error: Pg.DatabaseError): Meaning => {
  const code = codeOf(error)
  if (error.routine === planChanged) return "plan"
  return meanings[code] ?? meanings[code.slice(0, 2)] ?? "final"
}

/** Whether the connection can never run this statement again. */
export const isPlanDead = (error: unknown): boolean => error instanceof Pg.DatabaseError && meaningOf(error) === "plan"

/** Whether the server has ended a transaction because it took too long, or did nothing for too long. */
export const isOverdue = (error: unknown): boolean =>
  error instanceof Pg.DatabaseError && meaningOf(error) === "overdue"

/** What PgBouncer says, all with one code, when it accepts no more clients, and when it never will this one. */
const poolerIsFull = "no more connections allowed"
const poolerRefuses =
  /^(no such (user|database)|(database|role) ".*" does not exist|(password|SASL) authentication failed)/

const openingOf = (error: Pg.DatabaseError): Meaning =>
  error.message.startsWith(poolerIsFull) ? "busy" : poolerRefuses.test(error.message) ? "final" : meaningOf(error)

/** What the driver reports before there is a session, in its own words and without a code. */
const isRefusal = (cause: unknown): boolean =>
  // The server offers no TLS, the password is missing, or the server does not know it.
  cause instanceof Error && /^(The server does not support SSL connections|SASL: )/.test(cause.message)

/** `known`: a host that was found before is not a wrong name; the name service has failed. */
export const openFailure = (error: unknown, known: boolean): OpenFailure => {
  const operation = "connecting"
  const cause = error instanceof Error ? hinted(error, "ssl.caFile", "PG_SSL_CA_FILE") : error
  const meaning: Meaning =
    cause instanceof Pg.DatabaseError
      ? openingOf(cause)
      : isRefusal(cause) || (lastingOf(codeOf(cause)) === "final" && !(known && isNameFailure(cause)))
        ? "final"
        : "passing"
  return new OpenFailure(
    meaning === "final"
      ? // What a session is prepared with is there already: another client's, through a pooler.
        new StoreError({ operation, cause: explained(cause) })
      : new StoreUnavailable({ operation, retryable: true, cause }),
    meaning === "busy"
  )
}

const isNameFailure = (cause: unknown): boolean => ["ENOTFOUND", "EAI_NONAME"].includes(codeOf(cause))

/**
 * A statement that was prepared in another session, or is not there in this one: that is what a pooler in transaction
 * mode looks like which nobody has named.
 */
const isOfPooler = (error: unknown): error is Pg.DatabaseError =>
  error instanceof Pg.DatabaseError && ["26000", "42P05"].includes(codeOf(error))

const explained = (error: unknown): unknown => {
  if (!isOfPooler(error)) return error
  const why = 'a pooler in transaction mode, such as PgBouncer, must be named: pooler: "transaction" (PG_POOLER)'
  return Object.assign(new Error(`${error.message}: ${why}`, { cause: error }), { code: error.code })
}

export const classify = <K extends QueryKind>(error: unknown, kind: K, operation: string): FailureOf<K> => {
  // If the driver refuses parameters, its error has no code either, but no connection was lost.
  if (error instanceof TypeError || error instanceof RangeError) return new StoreError({ operation, cause: error })
  const meaning = error instanceof Pg.DatabaseError ? meaningOf(error) : "lost"
  const cause = explained(error)
  if (meaning === "final") return new StoreError({ operation, cause })
  return meaning === "lost" && kind === "write"
    ? (new CommitOutcomeUnknown({ operation, cause }) as FailureOf<K>)
    : new StoreUnavailable({ operation, retryable: meaning !== "overdue", cause })
}
