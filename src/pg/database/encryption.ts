/**
 * Whether and how a connection is encrypted: what a URL and the option beside it say together, in libpq's modes. What
 * is asked for is done or refused, never weakened.
 */
import * as net from "node:net"
import { InvalidInput } from "../../Errors.js"
import { agreed } from "../../internal/connectionOptions.js"
import { contentOf, type NodeTlsOptions, type TlsOptions, tlsOptions } from "../../internal/tls.js"
import { givenKeys, judged, oneOf, Parts, refuse, retold } from "../../internal/validate.js"
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

/** What rests on something that was refused elsewhere is not judged. Throws `InvalidInput`. */
export const encryption = (
  url: () => InUrl | undefined,
  option: Options["ssl"],
  host: () => string
): NodeTlsOptions | false => {
  const beside: SslOptions | undefined =
    typeof option === "boolean" || option === undefined ? undefined : isRecord(option) ? option : refused(option)
  const { all, part } = new Parts()
  const own = part(() => (beside?.mode === undefined ? undefined : oneOf(beside.mode, "ssl.mode", sslModes)))
  const mode = part(() =>
    typeof option === "boolean"
      ? agreed<SslMode>("ssl", url()?.mode, option ? "verify-full" : "disable")
      : agreed("ssl.mode", url()?.mode, own())
  )
  const inUrl = (file: keyof Files) => url()?.files[file]
  const hasFiles = () => fileOptions.some((file) => inUrl(file) !== undefined)
  const encrypts = part(() => mode() !== "disable" && (mode() !== undefined || beside !== undefined))
  part(() => {
    if (!encrypts() && hasFiles()) refuse("url", "must have an sslmode that encrypts beside files for it")
  })
  const asking = givenKeys(beside ?? {}).filter((key) => key !== "mode")
  for (const what of asking.length > 0 ? asking.map((key) => `ssl.${key}`) : ["ssl"]) {
    part(() => {
      if (encrypts() || beside === undefined || (what === "ssl" && own() !== undefined)) return
      refuse(what, "must not be given beside a mode that does not encrypt")
    })
  }
  part(() => {
    if (!encrypts() || !host().startsWith("/")) return
    const [first] = givenKeys(beside ?? {}).map((key) => `ssl.${key}`)
    const what = first ?? (beside === undefined && url()?.mode !== undefined ? "url" : "ssl")
    refuse(what, "asks for TLS, which there is not over a Unix socket")
  })
  for (const key of ["rejectUnauthorized", "checkServerIdentity"] as const) {
    part(() => {
      if (encrypts() && mode() !== undefined && beside?.[key] !== undefined)
        refuse(`ssl.${key}`, "must not be given beside a mode")
    })
  }
  // The driver would use the name of the host all the same.
  part(() => {
    const name = beside?.servername
    if (name !== undefined && encrypts() && net.isIP(host()) === 0 && name !== host())
      refuse("ssl.servername", "can only be given when host is an address")
  })
  const merged = (file: keyof Files) => part(() => agreed(`ssl.${file}`, inUrl(file), beside?.[file]))
  const verified = (key: "rejectUnauthorized" | "checkServerIdentity") => () => verification(mode(), asked)[key]
  const { mode: _, ...descriptors } = Object.getOwnPropertyDescriptors(beside ?? {})
  const asked: TlsOptions = Object.defineProperties({}, { ...descriptors, ...lazily(fileOptions, merged) })
  const tls = part(() => {
    if (judged(encrypts) === false) return false
    const verifying = judged(mode) === undefined ? {} : lazily(["rejectUnauthorized", "checkServerIdentity"], verified)
    const all = Object.defineProperties({}, { ...Object.getOwnPropertyDescriptors(asked), ...verifying })
    return retold(
      () => tlsOptions(all, "ssl") ?? false,
      (error) => {
        const file = fileOptions.find((file) => error.what === `ssl.${file}` && beside?.[file] === undefined)
        // What the URL has, or lacks, is named as it is there.
        return file !== undefined && hasFiles()
          ? new InvalidInput({ what: "url", why: `its ${parameters[file]} ${error.why}` })
          : error
      }
    )
  })
  // A file is there or not, whatever is wrong with the URL.
  for (const file of fileOptions) {
    part(() => {
      if (judged(() => [url()]) === undefined && beside?.[file] !== undefined) contentOf(beside[file], `ssl.${file}`)
    })
  }
  return all(tls)
}

const lazily = <K extends string>(keys: ReadonlyArray<K>, get: (key: K) => () => unknown): PropertyDescriptorMap =>
  Object.fromEntries(keys.map((key) => [key, { get: get(key), enumerable: true, configurable: true }]))

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
