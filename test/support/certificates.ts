/**
 * Certificates for tests of TLS, made by the machine's own openssl: an authority, and certificates that it or another
 * has signed.
 */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"

/** Names of files in PEM. */
export interface Certificate {
  readonly cert: string
  readonly key: string
}

export interface Certificates {
  readonly authority: string
  /** An authority that has signed none of the others. */
  readonly stranger: string
  /** For `localhost` and 127.0.0.1. */
  readonly server: Certificate
  /** For another name. */
  readonly misnamed: Certificate
  /** For `localhost`, until yesterday. */
  readonly expired: Certificate
  /** For the user `app`. */
  readonly client: Certificate
}

/** Makes them in a directory. */
export const certificates = (directory: string): Certificates => {
  const at = (name: string) => path.join(directory, name)
  const openssl = (...args: ReadonlyArray<string>) =>
    execFileSync("openssl", args, { cwd: directory, stdio: ["ignore", "pipe", "pipe"] })
  const key = (name: string) => {
    openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", at(`${name}.key`))
    return at(`${name}.key`)
  }
  const authority = (name: string) => {
    openssl("req", "-x509", "-new", "-key", key(name), "-subj", `/CN=${name}`, "-days", "30", "-out", at(`${name}.pem`))
    return at(`${name}.pem`)
  }
  const ca = authority("authority")
  const stranger = authority("stranger")
  fs.writeFileSync(at("index.txt"), "")
  fs.writeFileSync(
    at("ca.cnf"),
    `[ca]\ndefault_ca=own\n[own]\ndatabase=${at("index.txt")}\nnew_certs_dir=${directory}\nrand_serial=yes\n` +
      "default_md=sha256\npolicy=any\ncopy_extensions=copy\nunique_subject=no\n[any]\ncommonName=supplied\n"
  )
  const signed = (
    name: string,
    names: string,
    subject = name,
    startDate = dayFromNow(-2),
    endDate = dayFromNow(30)
  ) => {
    const request = at(`${name}.csr`)
    const extension = names === "" ? [] : ["-addext", `subjectAltName=${names}`]
    openssl("req", "-new", "-key", key(name), "-subj", `/CN=${subject}`, ...extension, "-out", request)
    const dates = ["-startdate", startDate, "-enddate", endDate]
    const by = ["-cert", ca, "-keyfile", at("authority.key"), "-config", at("ca.cnf")]
    openssl("ca", "-batch", "-notext", ...by, ...dates, "-in", request, "-out", at(`${name}.pem`))
    return { cert: at(`${name}.pem`), key: at(`${name}.key`) }
  }
  return {
    authority: ca,
    stranger,
    server: signed("server", "DNS:localhost,IP:127.0.0.1"),
    misnamed: signed("misnamed", "DNS:elsewhere.example"),
    expired: signed("expired", "DNS:localhost,IP:127.0.0.1", "expired", dayFromNow(-9), dayFromNow(-1)),
    client: signed("client", "", "app")
  }
}

/** As openssl takes it. */
const dayFromNow = (days: number): string =>
  new Date(Date.now() + days * 86_400_000).toISOString().replace(/[-:T]/g, "").replace(/\..*/, "Z")
