/**
 * What the driver's errors mean, as the errors of the stores. The driver's own error objects go no further than here:
 * they carry the command with all its arguments, which may be a password or a payload.
 */
import { StoreError, StoreUnavailable } from "../../Errors.js"

/** Replies of a server that may say something else later, or of one that another has taken the place of. */
const transient = new Set([
  "ASK",
  "BUSY",
  "CLUSTERDOWN",
  "LOADING",
  "MASTERDOWN",
  "MISCONF",
  "MOVED",
  "NOREPLICAS",
  "READONLY",
  "TRYAGAIN",
  "UNBLOCKED"
])

/** What a connection failed with before the driver says only that it is closed. */
const closed = new Set(["Connection is closed.", "None of startup nodes is available", "Cluster is ended."])

/** The first word of an error that the server replied with, such as `WRONGTYPE`; undefined for any other error. */
export const replyCode = (error: unknown): string | undefined =>
  error instanceof Error && error.name === "ReplyError" ? error.message.split(" ", 1)[0] : undefined

/** The error, or what its connection failed with when the error says only that there is none. */
export const rootOf = (error: unknown, connectionError: unknown): unknown =>
  error instanceof Error && closed.has(error.message) ? (connectionError ?? error) : error

export const classify = (error: unknown, operation: string): StoreUnavailable | StoreError => {
  const cause = withoutCommand(error)
  const reply = replyCode(error)
  const lasting =
    reply !== undefined
      ? !transient.has(reply) && !cause.message.includes("max number of clients")
      : // A name that does not exist, and a certificate that is not trusted, stay so; a bug of ours does, too.
        cause.code === "ENOTFOUND" || /CERT|SIGNATURE|^ERR_/.test(cause.code ?? "") || error instanceof TypeError
  return lasting ? new StoreError({ operation, cause }) : new StoreUnavailable({ operation, retryable: true, cause })
}

const withoutCommand = (error: unknown): Error & { code?: string } => {
  const copy: Error & { code?: string } = new Error(error instanceof Error ? error.message : String(error))
  if (error instanceof Error) {
    copy.name = error.name
    if ("code" in error && typeof error.code === "string") copy.code = error.code
  }
  return copy
}
