/**
 * The options of an encrypted connection, checked before it is needed: Node takes the name of a file for a certificate
 * and is silent, and asks the environment whether to verify when it is not told.
 */
import { X509Certificate } from "node:crypto"
import * as tls from "node:tls"
import { describe, fields, refuse } from "./validate.js"

/**
 * Those options of Node's TLS that say whom to trust, who one is and how to encrypt. The certificate of the server is
 * verified, for the name or address of its host, unless `rejectUnauthorized` is false.
 *
 * @since 0.1.0
 * @category models
 */
export type TlsOptions = Pick<
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

const keys: { readonly [K in keyof Required<TlsOptions>]: true } = {
  ca: true,
  cert: true,
  checkServerIdentity: true,
  ciphers: true,
  crl: true,
  ecdhCurve: true,
  key: true,
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

/** Undefined for no encryption. Throws `InvalidInput`. */
export const tlsOptions = (value: unknown, what: string): TlsOptions | undefined => {
  if (value === undefined || value === false) return undefined
  if (value !== true && (typeof value !== "object" || value === null)) {
    return refuse(
      what,
      `must be true, false or options of TLS, not ${typeof value === "string" ? "text" : describe(value)}`
    )
  }
  const given = value === true ? {} : fields(value, what, Object.keys(keys))
  const options: TlsOptions = {
    // The default, which NODE_TLS_REJECT_UNAUTHORIZED would change.
    rejectUnauthorized: true,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  }
  const mustBe = (key: keyof TlsOptions, type: string) => {
    if (options[key] !== undefined && typeof options[key] !== type) refuse(`${what}.${key}`, `must be a ${type}`)
  }
  mustBe("rejectUnauthorized", "boolean")
  mustBe("checkServerIdentity", "function")
  mustBe("passphrase", "string")
  mustBe("servername", "string")
  if (options.servername === "") refuse(`${what}.servername`, "must not be empty")
  for (const key of ["ca", "cert"] as const) {
    for (const certificate of [options[key] ?? []].flat()) {
      try {
        new X509Certificate(certificate)
      } catch {
        refuse(`${what}.${key}`, "must be a certificate itself in PEM, not the name of its file")
      }
    }
  }
  if (options.cert !== undefined && options.key === undefined) refuse(`${what}.key`, "must be given with cert")
  if (options.key !== undefined && options.cert === undefined) refuse(`${what}.cert`, "must be given with key")
  try {
    tls.createSecureContext(options)
  } catch (error) {
    // What Node says of a wrong type shows the value.
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown"
    refuse(what, `is refused by TLS: ${code.startsWith("ERR_OSSL") ? (error as Error).message : code}`)
  }
  return options
}
