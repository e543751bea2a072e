/**
 * What the errors of sockets, name services and TLS mean, by their codes: Node and OpenSSL give them to every driver.
 */

/** `passing`: it may go well later. `final`: it goes wrong for as long as nobody changes the settings. */
export type Lasting = "passing" | "final"

const codes: Readonly<Record<string, Lasting>> = {
  // The server is not there, or not yet, or no longer.
  ECONNREFUSED: "passing",
  ECONNRESET: "passing",
  ECONNABORTED: "passing",
  EPIPE: "passing",
  ENOENT: "passing",
  // The way there.
  ETIMEDOUT: "passing",
  EHOSTDOWN: "passing",
  EHOSTUNREACH: "passing",
  ENETDOWN: "passing",
  ENETRESET: "passing",
  ENETUNREACH: "passing",
  EAI_AGAIN: "passing",
  EAI_FAIL: "passing",
  ENOTFOUND: "final",
  EAI_NONAME: "final",
  // This machine.
  EADDRINUSE: "passing",
  EADDRNOTAVAIL: "passing",
  EAGAIN: "passing",
  EMFILE: "passing",
  ENFILE: "passing",
  ENOBUFS: "passing",
  ENOMEM: "passing",
  EACCES: "final",
  EPERM: "final",
  EAFNOSUPPORT: "final",
  EINVAL: "final",
  ENAMETOOLONG: "final",
  ENOTDIR: "final",
  ENOTSOCK: "final",
  // A server that speaks something else.
  EPROTO: "final",
  // Certificates.
  CERT_CHAIN_TOO_LONG: "final",
  CERT_HAS_EXPIRED: "final",
  CERT_NOT_YET_VALID: "final",
  CERT_REJECTED: "final",
  CERT_REVOKED: "final",
  CERT_SIGNATURE_FAILURE: "final",
  CERT_UNTRUSTED: "final",
  CRL_HAS_EXPIRED: "final",
  CRL_NOT_YET_VALID: "final",
  CRL_SIGNATURE_FAILURE: "final",
  DEPTH_ZERO_SELF_SIGNED_CERT: "final",
  ERROR_IN_CERT_NOT_AFTER_FIELD: "final",
  ERROR_IN_CERT_NOT_BEFORE_FIELD: "final",
  ERROR_IN_CRL_LAST_UPDATE_FIELD: "final",
  ERROR_IN_CRL_NEXT_UPDATE_FIELD: "final",
  HOSTNAME_MISMATCH: "final",
  INVALID_CA: "final",
  INVALID_PURPOSE: "final",
  PATH_LENGTH_EXCEEDED: "final",
  SELF_SIGNED_CERT_IN_CHAIN: "final",
  UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY: "final",
  UNABLE_TO_DECRYPT_CERT_SIGNATURE: "final",
  UNABLE_TO_DECRYPT_CRL_SIGNATURE: "final",
  UNABLE_TO_GET_CRL: "final",
  UNABLE_TO_GET_ISSUER_CERT: "final",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "final",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "final"
}

/** Undefined for a code that is none of theirs. */
export const lastingOf = (code: string): Lasting | undefined =>
  // Names of hosts, and what the two sides could not agree on.
  Object.hasOwn(codes, code) ? codes[code] : /^ERR_(SSL|TLS|OSSL)_/.test(code) ? "final" : undefined

/** The certificate is whole, and nobody who is trusted has signed it. */
const untrusted = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
])

/** With what helps: the option that names authorities, and its variable. */
export const hinted = <E extends Error>(error: E, option: string, variable: string): E | Error => {
  const code = "code" in error ? String(error.code) : ""
  if (!untrusted.has(code)) return error
  const why = `no trusted authority has signed it; a file with the authority is named by ${option} (${variable})`
  return Object.assign(new Error(`${error.message}: ${why}`, { cause: error }), { code })
}
