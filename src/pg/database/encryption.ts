/**
 * Whether and how a connection is encrypted: what a URL and the option beside it say together, in libpq's modes. What
 * is asked for is done or refused, never weakened.
 */
import * as net from "node:net"
import { agreed } from "../../internal/connectionOptions.js"
import { type NodeTlsOptions, tlsOptions } from "../../internal/tls.js"
import { invalid, oneOf, refuse } from "../../internal/validate.js"
import { type Options, type SslMode, type SslOptions, sslModes } from "./options.js"

/** Those of libpq's parameters that name files, by the options that do. */
const parameters = { caFile: "sslrootcert", certFile: "sslcert", keyFile: "sslkey" } as const

const fileOptions = ["caFile", "certFile", "keyFile"] as const

type Files = { readonly [K in keyof typeof parameters]?: string | undefined }

/** What a URL says. */
export interface InUrl {
  readonly mode: SslMode | undefined
  readonly files: Files
}

export const inUrl = (
  parameter: (key: "sslmode" | (typeof parameters)[keyof typeof parameters]) => string | undefined
): InUrl => {
  const mode = parameter("sslmode")
  return {
    mode:
      mode === undefined
        ? undefined
        : (sslModes.find((known) => known === mode) ??
          refuse("url", `must have one of ${sslModes.join(", ")} as its sslmode`)),
    files: Object.fromEntries(fileOptions.map((option) => [option, parameter(parameters[option])]))
  }
}

/** Throws `InvalidInput`. */
export const encryption = (
  url: InUrl = { mode: undefined, files: {} },
  option: Options["ssl"],
  host: string
): NodeTlsOptions | false => {
  const beside: SslOptions | undefined =
    typeof option === "boolean" || option === undefined ? undefined : isRecord(option) ? option : refused(option)
  const { mode: own, ...options } = beside ?? {}
  const mode =
    typeof option === "boolean"
      ? agreed<SslMode>("ssl", url.mode, option ? "verify-full" : "disable")
      : agreed("ssl.mode", url.mode, own === undefined ? undefined : oneOf(own, "ssl.mode", sslModes))
  const hasFiles = fileOptions.some((file) => url.files[file] !== undefined)
  if (mode === "disable" || (mode === undefined && beside === undefined)) {
    if (hasFiles) return refuse("url", "must have an sslmode that encrypts beside files for it")
    const [asking] = Object.entries(options).flatMap(([key, value]) => (value === undefined ? [] : [`ssl.${key}`]))
    return asking !== undefined || (beside !== undefined && own === undefined)
      ? refuse(asking ?? "ssl", "must not be given beside a mode that does not encrypt")
      : false
  }
  if (host.startsWith("/")) {
    return refuse(
      beside === undefined && url.mode !== undefined ? "url" : "ssl",
      "asks for TLS, which there is not over a Unix socket"
    )
  }
  for (const key of ["rejectUnauthorized", "checkServerIdentity"] as const) {
    if (mode !== undefined && options[key] !== undefined) refuse(`ssl.${key}`, "must not be given beside a mode")
  }
  // The driver would use the name of the host all the same.
  if (options.servername !== undefined && net.isIP(host) === 0 && options.servername !== host) {
    return refuse("ssl.servername", "can only be given when host is an address")
  }
  const files: Files = Object.fromEntries(
    fileOptions.map((file) => [file, agreed(`ssl.${file}`, url.files[file], options[file])])
  )
  const all = { ...options, ...files }
  try {
    return tlsOptions({ ...all, ...verification(mode, all) }, "ssl") ?? false
  } catch (error) {
    const { what, why } = invalid(error)
    const file = fileOptions.find((file) => what === `ssl.${file}` && options[file] === undefined)
    // What the URL has, or lacks, is named as it is there.
    return hasFiles && file !== undefined ? refuse("url", `its ${parameters[file]} ${why}`) : refuse(what, why)
  }
}

/** As in libpq: `require` verifies the server only if authorities are given. */
const verification = (mode: SslMode | undefined, { ca, caFile }: SslOptions): NodeTlsOptions => {
  if (mode === "require" && ca === undefined && caFile === undefined) return { rejectUnauthorized: false }
  return mode === "require" || mode === "verify-ca" ? { checkServerIdentity: () => undefined } : {}
}

const isRecord = (value: unknown): value is SslOptions =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const refused = (value: unknown): never => {
  tlsOptions(value, "ssl")
  return refuse("ssl", "must be true, false or options of TLS")
}
