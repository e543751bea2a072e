/**
 * The options of an encrypted connection, checked before it is needed: Node takes the name of a file for a certificate
 * and is silent, leaves out what is none, and asks the environment whether to verify when it is not told.
 */
import { X509Certificate } from "node:crypto"
import * as fs from "node:fs"
import * as tls from "node:tls"
import * as ConfigError from "effect/ConfigError"
import * as Redacted from "effect/Redacted"
import * as variables from "./config.js"
import { secret } from "./connectionOptions.js"
import { defined, describe, fields, Parts, refuse } from "./validate.js"

/** Those options of Node's TLS that say whom to trust, who one is and how to encrypt. */
export type NodeTlsOptions = Pick<
  tls.ConnectionOptions,
  | "ca"
  | "cert"
  | "checkServerIdentity"
  | "ciphers"
  | "crl"
  | "ecdhCurve"
  | "key"
  | "maxVersion"
  | "minDHSize"
  | "minVersion"
  | "passphrase"
  | "pfx"
  | "rejectUnauthorized"
  | "secureOptions"
  | "servername"
  | "sigalgs"
>

/**
 * Those options of Node's TLS that say whom to trust, who one is and how to encrypt, and names of files for three of
 * them. The certificate of the server is verified, for the name or address of its host, unless `rejectUnauthorized` is
 * false.
 *
 * @since 0.1.0
 * @category models
 */
export interface TlsOptions extends Omit<NodeTlsOptions, "passphrase"> {
  /** A file with the authorities to trust, in PEM, instead of those known to Node. Read when a layer opens. */
  readonly caFile?: string | undefined
  /** A file with one's own certificate, in PEM, and those between it and the authority. Needs a key. */
  readonly certFile?: string | undefined
  /** A file with the key of the certificate, in PEM. */
  readonly keyFile?: string | undefined
  /** Of a key that is encrypted. */
  readonly passphrase?: string | Redacted.Redacted | undefined
}

const keys: { readonly [K in keyof Required<TlsOptions>]: true } = {
  ca: true,
  caFile: true,
  cert: true,
  certFile: true,
  checkServerIdentity: true,
  ciphers: true,
  crl: true,
  ecdhCurve: true,
  key: true,
  keyFile: true,
  maxVersion: true,
  minDHSize: true,
  minVersion: true,
  passphrase: true,
  pfx: true,
  rejectUnauthorized: true,
  secureOptions: true,
  servername: true,
  sigalgs: true
}

const filed = { ca: "caFile", cert: "certFile", key: "keyFile" } as const

/** Undefined for no encryption. Reads the files. Throws `InvalidInput`. */
export const tlsOptions = (value: unknown, what: string): NodeTlsOptions | undefined => {
  if (value === undefined || value === false) return undefined
  if (value !== true && (typeof value !== "object" || value === null)) {
    return refuse(
      what,
      `must be true, false or options of TLS, not ${typeof value === "string" ? "text" : describe(value)}`
    )
  }
  const given: TlsOptions = value === true ? {} : fields(value, what, Object.keys(keys))
  const { all, part } = new Parts()
  const mustBe = (key: keyof TlsOptions, type: string) =>
    part(() => {
      if (given[key] !== undefined && typeof given[key] !== type) refuse(`${what}.${key}`, `must be a ${type}`)
    })
  mustBe("rejectUnauthorized", "boolean")
  mustBe("checkServerIdentity", "function")
  mustBe("servername", "string")
  part(() => {
    if (given.servername === "") refuse(`${what}.servername`, "must not be empty")
  })
  const passphrase = part(() => {
    const { passphrase } = given
    if (Redacted.isRedacted(passphrase)) return secret(passphrase, `${what}.passphrase`)
    return passphrase === undefined || typeof passphrase === "string"
      ? passphrase
      : refuse(`${what}.passphrase`, "must be a string")
  })
  const content = <K extends keyof typeof filed>(key: K) =>
    part((): TlsOptions[K] => {
      const file = filed[key]
      if (given[file] === undefined) return given[key]
      return given[key] === undefined
        ? contentOf(given[file], `${what}.${file}`)
        : refuse(`${what}.${file}`, `must not be given beside ${key}`)
    })
  const contents = { ca: content("ca"), cert: content("cert"), key: content("key") }
  /** An option as it was given, or as the other one of its pair was. */
  const named = (key: keyof typeof filed, beside = key) =>
    `${what}.${given[filed[key]] !== undefined || given[filed[beside]] !== undefined ? filed[key] : key}`
  const pem = <K extends "ca" | "cert">(key: K) =>
    part(() => {
      const found = contents[key]()
      if ([found ?? []].flat().every(isPem)) return found
      return refuse(
        named(key),
        given[filed[key]] === undefined
          ? "must be a certificate itself in PEM, not the name of its file"
          : "must be a file with certificates in PEM"
      )
    })
  const ca = pem("ca")
  const cert = pem("cert")
  part(() => {
    const [cert, key] = [contents.cert(), contents.key()]
    if (cert !== undefined && key === undefined) refuse(named("key", "cert"), "must be given with a certificate")
    if (key !== undefined && cert === undefined) refuse(named("cert", "key"), "must be given with a key")
  })
  part(() => {
    if (passphrase() !== undefined && contents.key() === undefined && given.pfx === undefined) {
      refuse(`${what}.keyFile`, "must be given with a passphrase")
    }
  })
  const key = part(() => {
    const found = contents.key()
    return found === undefined || refusalOf({ key: found, passphrase: passphrase() }) === undefined
      ? found
      : refuse(named("key"), "must be a private key in PEM, and its passphrase must be given if it is encrypted")
  })
  part(() => {
    if (key() !== undefined && refusalOf({ cert: cert(), key: key(), passphrase: passphrase() }) !== undefined) {
      refuse(named("key"), "is not the key of the certificate")
    }
  })
  return all(() => {
    const { caFile: _ca, certFile: _cert, keyFile: _key, ...inline } = given
    const read = { ca: ca(), cert: cert(), key: key(), passphrase: passphrase() }
    // The default, which NODE_TLS_REJECT_UNAUTHORIZED would change.
    const options: NodeTlsOptions = { rejectUnauthorized: true, ...defined({ ...inline, ...read }) }
    const refusal = refusalOf(options)
    return refusal === undefined ? options : refuse(what, `is refused by TLS: ${refusal}`)
  })
}

/** Of a file. Throws `InvalidInput`. */
export const contentOf = (file: unknown, what: string): Buffer => {
  if (typeof file !== "string" || file === "") return refuse(what, "must be the name of a file")
  if (file.includes("-----BEGIN")) return refuse(what, "must be the name of a file, not what is in it")
  try {
    return fs.readFileSync(file)
  } catch (error) {
    return refuse(what, `cannot be read (${error instanceof Error && "code" in error ? error.code : "it failed"})`)
  }
}

/** Whether there is a certificate, and no broken one: Node would leave it out, with all that follow. */
const isPem = (text: string | Buffer): boolean => {
  const found = String(text).match(/-----BEGIN [A-Z0-9 ]*CERTIFICATE-----.*?(?=-----BEGIN |$)/gs) ?? []
  return found.length > 0 && found.every(isCertificate)
}

const isCertificate = (pem: string): boolean => {
  try {
    return new X509Certificate(pem).raw.length > 0
  } catch {
    return false
  }
}

/** What Node says of a wrong type shows the value, so only what OpenSSL says is passed on. */
const refusalOf = (options: tls.SecureContextOptions): string | undefined => {
  try {
    tls.createSecureContext(options)
    return undefined
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown"
    return code.startsWith("ERR_OSSL") ? (error as Error).message : code
  }
}

/** Those options that operators set, as variables. */
export const tlsReaders = {
  caFile: variables.text,
  certFile: variables.text,
  keyFile: variables.text,
  passphrase: variables.secret,
  servername: variables.text
} as const

/** What the variables behind a name say, `TLS_CA_FILE` and so on; undefined when there are none. */
export const tlsVariables: variables.Reader<TlsOptions> = variables.group(tlsReaders)

/** The same with a switch of that name. */
export const tlsSwitch: variables.Reader<boolean | TlsOptions> = variables.switched(
  tlsVariables,
  (on, _, name) => (on ? undefined : ConfigError.InvalidData([name], `must not be false beside \`${name}_*\``)),
  (on, options) => options ?? on
)
