/**
 * What the options of databases behind a network have in common: names, ports, secrets, and the URL that may stand for
 * them; and the paths of those on this machine. Each check throws `InvalidInput`, and none shows a value that is a
 * secret or may be a part of one.
 *
 * A URL is taken apart here and not by `URL`, which drops line ends, adds and removes dots, and takes what follows a
 * `#` or a `?` in a password for something else.
 */

import * as net from "node:net"
import * as path from "node:path"
import * as Redacted from "effect/Redacted"
import { describe, integer, refuse } from "./validate.js"

export interface UrlParts {
  readonly scheme: string
  readonly username: string | undefined
  readonly password: string | undefined
  readonly host: string | undefined
  readonly port: number | undefined
  /** What follows the slash behind the host. */
  readonly path: string | undefined
  /** In their order, none twice and none empty. */
  readonly parameters: ReadonlyMap<string, string>
}

export const text = (value: unknown, what: string): string | undefined =>
  value === undefined || (typeof value === "string" && value !== "" && !value.includes("\0") && value.isWellFormed())
    ? value
    : refuse(what, `must be text, not ${describe(value)}`)

/** Never with the value in the error: it is one. */
export const secret = (value: unknown, what: string): string | undefined => {
  if (value === undefined) return undefined
  let found: unknown
  try {
    found = Redacted.isRedacted(value) ? Redacted.value(value) : undefined
  } catch {
    return refuse(what, "was wiped")
  }
  return typeof found === "string" && found !== "" && !found.includes("\0") && found.isWellFormed()
    ? found
    : refuse(what, "must be redacted text (Redacted.make) that is not empty")
}

export const port = (value: unknown, what: string): number | undefined =>
  value === undefined ? undefined : integer(value, what, 1, 65_535)

/** The name of a host, or its address. */
export const host = (value: unknown, what: string): string | undefined => {
  const name = text(value, what)
  if (name === undefined || net.isIP(name) !== 0 || /^[\p{L}\p{N}_]([\p{L}\p{N}._-]*[\p{L}\p{N}_.])?$/u.test(name)) {
    return name
  }
  return refuse(what, "must be the name of one host, or its address: without a scheme, a port and brackets")
}

/** What is told twice must be told alike. Neither is shown. */
export const agreed = <A>(what: string, inUrl: A | undefined, beside: A | undefined): A | undefined =>
  inUrl !== undefined && beside !== undefined && inUrl !== beside
    ? refuse(what, "is not what the url says: give it once")
    : (beside ?? inUrl)

/**
 * Takes a URL apart. What follows `://` may have one `@`, and no `#`: another one belongs to a name or a password, and
 * where it ends cannot be known.
 */
export const parseUrl = (url: string, schemes: ReadonlyArray<string>): UrlParts => {
  if (/^["']/.test(url)) return malformed("must not be in quotes: they would belong to it")
  const scheme = schemes.find((scheme) => url.startsWith(`${scheme}://`))
  if (scheme === undefined) {
    return malformed(`must begin with ${schemes.map((scheme) => `${scheme}://`).join(" or ")}`)
  }
  if (/[\s\p{Cc}]/u.test(url)) return malformed("must not contain a space or the end of a line: percent-encode it")
  const rest = url.slice(scheme.length + 3)
  if (rest.includes("#")) return malformed("must not contain a #: percent-encode it, as %23")
  const [authority = ""] = rest.split(/[/?]/, 1)
  const pieces = authority.split("@")
  const [address = "", userinfo] = pieces.reverse()
  const behind = rest.slice(authority.length)
  if (pieces.length > 2 || behind.includes("@")) {
    return malformed("must have one @, before its host: percent-encode @ as %40, / as %2F and ? as %3F in a password")
  }
  const [, v6, name = v6, digits] =
    address.match(/^(?:\[([^[\]]*)\]|([^[\]:]*))(?::(.*))?$/s) ?? malformed("has no host")
  if (v6 === undefined && /:.*:/s.test(address)) {
    return malformed(
      "must have one host, an IPv6 address in brackets, and what is special in a password percent-encoded"
    )
  }
  if (digits !== undefined && !(/^\d{1,5}$/.test(digits) && Number(digits) > 0 && Number(digits) < 65_536)) {
    return malformed("must have a number from 1 to 65535 as its port: percent-encode what is special in a password")
  }
  if (v6 !== undefined && !net.isIPv6(decoded(v6) ?? "")) return malformed("must have an IPv6 address in brackets")
  if (userinfo === "" || userinfo?.endsWith(":")) return malformed("has a user or a password that is empty")
  const question = behind.indexOf("?")
  const path = question < 0 ? behind : behind.slice(0, question)
  if (path.slice(1).includes("/")) return malformed("must have one name as its path: percent-encode / in it as %2F")
  const [username, ...password] = userinfo === undefined ? [] : userinfo.split(":")
  return {
    scheme,
    username: username === undefined ? undefined : decoded(username),
    password: password.length === 0 ? undefined : decoded(password.join(":")),
    host: decoded(name),
    port: digits === undefined ? undefined : Number(digits),
    path: decoded(path.slice(1)),
    parameters: question < 0 ? new Map() : parametersOf(behind.slice(question + 1))
  }
}

const parametersOf = (query: string): ReadonlyMap<string, string> => {
  const parameters = new Map<string, string>()
  for (const pair of query.split("&")) {
    const [name = "", ...rest] = pair.split("=")
    const value = rest.join("=")
    if (!/^\w+$/.test(name) || value === "") return malformed("has a parameter without a name or a value")
    if (parameters.has(name)) return malformed("has a parameter twice")
    parameters.set(name, decoded(value) ?? "")
  }
  return parameters
}

const decoded = (part: string | undefined): string | undefined => {
  if (part === undefined || part === "") return undefined
  let plain: string
  try {
    plain = decodeURIComponent(part)
  } catch {
    return malformed("has a % that encodes nothing: write %25 for it")
  }
  return plain.includes("\0") ? malformed("must not contain NUL") : plain
}

const malformed = (why: string): never => refuse("url", why)

/**
 * The absolute path of a file or a folder, resolved once, when a layer opens. Text that other programs take for
 * something other than a path would become a file of that name, so it is refused.
 */
export const located = (value: unknown, what: string): string => {
  const refused = (why: string) => refuse(what, why)
  if (typeof value !== "string") return refused(`must be a string, not ${typeof value}`)
  if (value === "") return refused("must not be empty")
  if (value.includes("\0")) return refused("must not contain NUL")
  if (!value.isWellFormed()) return refused("must not contain a lone surrogate")
  if (value.startsWith("~")) {
    return refused('must be a path: ~ is for shells; write path.join(os.homedir(), …), or "./~…" for a file')
  }
  if (/^(\$|%\w+%)/.test(value)) {
    return refused('must be a path: variables are for shells; write path.join(process.env.…, …), or "./$…" for a file')
  }
  if (/^[a-z][a-z\d+.-]*:/i.test(value) && !isDrive(value)) {
    return refused('must be a path, not a URI: write "data/events" or "/data/events", or "./a:b" for a file')
  }
  try {
    return path.resolve(value)
  } catch {
    return refused("cannot be resolved: the working directory is gone; write an absolute path")
  }
}

const isDrive = (value: string): boolean => process.platform === "win32" && /^[a-z]:/i.test(value)
