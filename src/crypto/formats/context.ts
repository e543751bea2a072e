/**
 * The context of what is sealed: its place, as bytes. Whoever moves a ciphertext to another place changes the context,
 * and then it does not open. The encoding is injective (no two contexts have the same bytes): a version, then for each
 * field its tag, its length and its bytes, in ascending order of tags. Byte by byte in docs/formats.md.
 */

/** Frozen: a tag is never given another meaning. */
const tags = {
  kind: 1,
  store: 2,
  tenant: 3,
  domain: 4,
  id: 5,
  version: 6,
  event: 7,
  type: 8,
  field: 9,
  schemaVersion: 10,
  mark: 11,
  status: 12,
  key: 13,
  expires: 14,
  bucket: 15,
  object: 16,
  metadata: 17,
  subject: 18,
  purpose: 19,
  write: 20
} as const

export type ContextField = keyof typeof tags

/** Numbers are whole and not negative; of a field that is undefined nothing is written. */
export type Context = { readonly kind: string } & { readonly [K in ContextField]?: string | number | undefined }

const version = 1
const headBytes = 5
const numberBytes = 8

const order = (Object.keys(tags) as Array<ContextField>).sort((a, b) => tags[a] - tags[b])

// One for all, grown as needed: contexts are encoded, used and forgotten in one synchronous step.
let scratch = Buffer.allocUnsafeSlow(4096)

/** Writes fields one by one, in ascending order of tags. What `bytes` gives is valid until the next one is begun. */
export class ContextWriter {
  private at: number

  /** `prefix`: the bytes of fields that come first, with the version before them. */
  constructor(prefix?: Uint8Array) {
    if (prefix === undefined) {
      scratch[0] = version
      this.at = 1
    } else {
      this.reserve(0, prefix.length)
      scratch.set(prefix, 0)
      this.at = prefix.length
    }
  }

  text(field: ContextField, value: string): this {
    // Up to 3 bytes of UTF-8 for a code unit.
    this.reserve(this.at, headBytes + value.length * 3)
    const length = scratch.write(value, this.at + headBytes, "utf8")
    this.head(field, length)
    this.at += length
    return this
  }

  number(field: ContextField, value: number): this {
    this.reserve(this.at, headBytes + numberBytes)
    this.head(field, numberBytes)
    if (Number.isSafeInteger(value) && value >= 0) {
      scratch.writeUInt32BE(Math.floor(value / 0x1_0000_0000), this.at)
      scratch.writeUInt32BE(value % 0x1_0000_0000, this.at + 4)
    } else {
      // A number that somebody else has stored, and that nothing was ever sealed with.
      scratch.fill(0xff, this.at, this.at + numberBytes)
    }
    this.at += numberBytes
    return this
  }

  get bytes(): Buffer {
    return scratch.subarray(0, this.at)
  }

  private head(field: ContextField, length: number): void {
    scratch[this.at] = tags[field]
    scratch.writeUInt32BE(length, this.at + 1)
    this.at += headBytes
  }

  private reserve(used: number, more: number): void {
    if (used + more <= scratch.length) return
    const larger = Buffer.allocUnsafeSlow((used + more) * 2)
    scratch.copy(larger, 0, 0, used)
    scratch = larger
  }
}

/** A copy, which may be kept. Throws on text that is not well-formed, because UTF-8 would fold it with other text. */
export const encode = (context: Context): Buffer => {
  const writer = new ContextWriter()
  for (const field of order) {
    const value = context[field]
    if (value === undefined) continue
    if (typeof value === "number") {
      if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${field} must be a whole number`)
      writer.number(field, value)
    } else {
      if (!value.isWellFormed()) throw new RangeError(`${field} must not contain a lone surrogate`)
      writer.text(field, value)
    }
  }
  return Buffer.from(writer.bytes)
}
