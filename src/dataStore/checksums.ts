/**
 * The checksums of a body: SHA-256 of all of it, and for every 256 KiB the first 96 bits of its SHA-256, so that a part
 * can be verified alone, and a piece before anybody has it. As text, `<sha256 in hex>.<16 characters for each piece>`.
 */
import { createHash, type Hash } from "node:crypto"

/**
 * Bytes of a piece, in which bodies are written, verified and read: a range of one byte costs one of them.
 *
 * @since 0.1.0
 * @category bodies
 */
export const chunkBytes = 256 * 1024

/** 12 bytes are 16 characters of base64 without padding. */
const sumBytes = 12
const sumLength = 16

const digestOf = (piece: Uint8Array): Buffer => createHash("sha256").update(piece).digest()

const textOf = (digest: Buffer): string => digest.toString("base64url", 0, sumBytes)

const sumOf = (piece: Uint8Array): string => textOf(digestOf(piece))

/**
 * Sums up a body, piece by piece.
 *
 * @since 0.1.0
 * @category bodies
 */
export class Summing {
  /** Bytes so far. */
  size = 0
  private readonly whole: Hash = createHash("sha256")
  private readonly pieces: Array<string> = []

  /** All but the last must have `chunkBytes`; `Regrouping` makes them so. */
  add(piece: Uint8Array): void {
    this.size += piece.byteLength
    this.whole.update(piece)
    // The first piece is all there is so far.
    const sum = this.pieces.length === 0 ? this.whole.copy().digest() : digestOf(piece)
    this.pieces.push(textOf(sum))
  }

  /** Ends it: the checksums as a port stores them. */
  text(): string {
    return `${this.whole.digest("hex")}.${this.pieces.join("")}`
  }
}

const form = /^([0-9a-f]{64})\.((?:[\w-]{16})*)$/

const wholeForm = /^[0-9a-f]{64}$/

export interface Checksums {
  readonly sha256: string
  /** Null when the port has verified what it gives. */
  readonly fits: ((index: number, piece: Uint8Array) => boolean) | null
}

/**
 * The checksums of a body of that size; undefined for a text that cannot be theirs. Without those of its pieces only
 * where the port says that it verifies what it reads: the text alone must not turn that off.
 */
export const parse = (text: string, size: number, isVerified: boolean): Checksums | undefined => {
  if (wholeForm.test(text)) return isVerified ? { sha256: text, fits: null } : undefined
  const found = form.exec(text)
  if (found === null) return undefined
  const [, sha256 = "", sums = ""] = found
  if (sums.length !== Math.ceil(size / chunkBytes) * sumLength) return undefined
  return {
    sha256,
    fits: (index, piece) => sums.slice(index * sumLength, (index + 1) * sumLength) === sumOf(piece)
  }
}

/**
 * Regroups bytes that come in pieces of any size into pieces of `chunkBytes`, copying only what has to be joined.
 *
 * @since 0.1.0
 * @category bodies
 */
export class Regrouping {
  private buffer: Buffer | undefined
  private filled = 0

  /** The pieces that are full with these bytes. */
  push(bytes: Uint8Array): ReadonlyArray<Uint8Array> {
    const full: Array<Uint8Array> = []
    let from = 0
    while (from < bytes.byteLength) {
      const left = bytes.byteLength - from
      if (this.filled === 0 && left >= chunkBytes) {
        full.push(bytes.subarray(from, from + chunkBytes))
        from += chunkBytes
        continue
      }
      this.buffer ??= Buffer.allocUnsafeSlow(chunkBytes)
      const count = Math.min(left, chunkBytes - this.filled)
      this.buffer.set(bytes.subarray(from, from + count), this.filled)
      this.filled += count
      from += count
      if (this.filled === chunkBytes) {
        full.push(this.buffer)
        this.buffer = undefined
        this.filled = 0
      }
    }
    return full
  }

  /** What is left at the end, if anything. */
  rest(): Uint8Array | undefined {
    return this.filled === 0 || this.buffer === undefined ? undefined : this.buffer.subarray(0, this.filled)
  }
}
