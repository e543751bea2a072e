/**
 * What the driver's errors mean, as the errors of the stores. The driver's own error objects are never passed on: they
 * carry the command with all its arguments, which may be a password or a payload.
 */
import { StoreError, StoreUnavailable } from "../../Errors.js"
import { hinted, lastingOf } from "../../internal/socketFailures.js"

/**
 * - `passing`: a server may reply differently later, or another may have taken its place.
 * - `final`: the same command fails again.
 */
type Meaning = "passing" | "final"

/** By the first word of a reply. All others say what is wrong with the command, and are final. */
const meanings: Readonly<Record<string, Meaning>> = {
  ASK: "passing",
  BUSY: "passing", // a script runs
  BUSYGROUP: "final",
  BUSYKEY: "final",
  CLUSTERDOWN: "passing",
  CROSSSLOT: "final",
  DENIED: "final", // protected mode
  ERR: "final", // but see `full`
  EXECABORT: "final",
  FAILOVER: "passing",
  INPROG: "passing", // a failover is under way
  INVALIDOBJ: "final",
  LOADING: "passing",
  MASTERDOWN: "passing",
  MISCONF: "passing", // the disk is full
  MOVED: "passing",
  NOAUTH: "final",
  NOGOODSLAVE: "passing",
  NOMASTERLINK: "passing",
  NOPERM: "final",
  NOPROTO: "final",
  NOQUORUM: "passing",
  NOREPLICAS: "passing",
  NOSCRIPT: "passing", // a restart has forgotten it
  NOSUB: "final",
  NOTBUSY: "final",
  OOM: "passing", // until keys expire, are evicted or deleted
  READONLY: "passing",
  SYNTAX: "final",
  TRYAGAIN: "passing",
  UNBLOCKED: "passing",
  UNKILLABLE: "final",
  UNSTABLE: "passing",
  WRONGPASS: "final",
  WRONGTYPE: "final"
}

/** What the server says when it accepts no more clients. */
const full = "max number of clients"

/** Why a connection failed, before the driver says only that it is closed. */
const closed = new Set(["Connection is closed.", "None of startup nodes is available", "Cluster is ended."])

const noSentinel = "All sentinels are unreachable"

/** The first word of an error that the server replied with, such as `WRONGTYPE`; undefined for any other error. */
export const replyCode = (error: unknown): string | undefined =>
  error instanceof Error && error.name === "ReplyError" ? error.message.split(" ", 1)[0] : undefined

/** The error; or why its connection failed, if the error says only that there is none. */
export const rootOf = (error: unknown, connectionError: unknown): unknown =>
  error instanceof Error && (closed.has(error.message) || error.message.startsWith(noSentinel))
    ? (connectionError ?? error)
    : error

export const classify = (error: unknown, operation: string): StoreUnavailable | StoreError => {
  const cause = withoutCommand(error)
  return meaningOf(error, cause) === "final"
    ? new StoreError({ operation, cause })
    : new StoreUnavailable({ operation, retryable: true, cause })
}

const meaningOf = (error: unknown, { code = "", message }: Failure): Meaning => {
  const reply = replyCode(error)
  if (reply !== undefined) return message.includes(full) ? "passing" : (meanings[reply] ?? "final")
  // A bug of ours.
  if (error instanceof TypeError) return "final"
  return lastingOf(code) ?? "passing"
}

interface Failure extends Error {
  code?: string
}

const withoutCommand = (error: unknown): Failure => {
  const copy: Failure = new Error(error instanceof Error ? error.message : String(error))
  if (error instanceof Error) {
    copy.name = error.name
    if ("code" in error && typeof error.code === "string") copy.code = error.code
  }
  return hinted(copy, "tls.caFile", "REDIS_TLS_CA_FILE")
}
