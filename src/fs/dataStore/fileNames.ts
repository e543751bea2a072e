/**
 * The name of the file of an object: in lower case, without any character that a file system or a shell takes for
 * something else, and the same for no two names. It is never more than a name in one folder.
 */
import { createHash } from "node:crypto"

/** Shorter than what any file system takes, in bytes. */
const plainBytesMax = 200

const hex = (byte: number): string => `%${byte.toString(16).padStart(2, "0")}`

/** A point that begins or ends a name hides it, or is cut off. */
const isPlain = (byte: number, first: boolean, last: boolean): boolean =>
  (byte >= 0x61 && byte <= 0x7a) ||
  (byte >= 0x30 && byte <= 0x39) ||
  byte === 0x5f ||
  byte === 0x2d ||
  (byte === 0x2e && !first && !last)

/** A name that would be too long is that of its hash, which begins with a character that is escaped everywhere else. */
export const fileNameOf = (name: string): string => {
  const bytes = Buffer.from(name)
  let text = ""
  for (const [i, byte] of bytes.entries()) {
    text += isPlain(byte, i === 0, i === bytes.byteLength - 1) ? String.fromCharCode(byte) : hex(byte)
    if (text.length > plainBytesMax) return `~${createHash("sha256").update(bytes).digest("hex")}`
  }
  return text
}

/** The name, `"hashed"` where only the file knows it, or undefined for a file that no object has. */
export const nameOf = (file: string): { readonly name: string } | "hashed" | undefined => {
  if (/^~[0-9a-f]{64}$/.test(file)) return "hashed"
  if (!/^(?:[a-z0-9._-]|%[0-9a-f]{2})+$/.test(file)) return undefined
  const name = Buffer.from(
    file.replace(/%([0-9a-f]{2})|(.)/g, (_, code: string | undefined, plain: string | undefined) =>
      code === undefined ? (plain as string) : String.fromCharCode(Number.parseInt(code, 16))
    ),
    "latin1"
  ).toString()
  return fileNameOf(name) === file ? { name } : undefined
}
