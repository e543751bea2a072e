/**
 * FLOE, a random-access authenticated encryption of long messages with a published proof (Fast Lightweight Online
 * Encryption, by Snowflake): GCM-256 with SHA-384. A message is a header and segments of one size; each segment has its
 * place and whether it is the last in its associated data, so what is cut off, moved, doubled or added is found. Here
 * without the object around it, as a machine on bytes that holds one segment.
 */
import { timingSafeEqual } from "node:crypto"
import * as nonces from "./nonces.js"
import { expandBlock, gcmNonceBytes, gcmOpen, gcmSeal, gcmTagBytes } from "./primitives.js"

const paramBytes = 10
const ivBytes = 32
const headerTagBytes = 32
export const headerBytes = paramBytes + ivBytes + headerTagBytes

const lengthBytes = 4
const bodyAt = lengthBytes + gcmNonceBytes
const segmentOverhead = bodyAt + gcmTagBytes
const notLast = 0xffffffff
/** A segment key is used for 2^20 segments. */
const rotationBits = 20
const segmentsMax = 2 ** 40

export interface Parameters {
  /** Of a whole segment, encrypted. */
  readonly segmentBytes: number
  /** Only known answers of others have another. */
  readonly rotationBits?: number
}

/** What reading can find wrong. */
export type Flaw = "segment" | "truncated" | "trailing"

const params = ({ segmentBytes }: Parameters): Buffer => {
  // AES-256-GCM and HKDF-Expand-SHA-384, both number 0.
  const out = Buffer.alloc(paramBytes)
  out.writeUInt32BE(segmentBytes, 2)
  out.writeUInt32BE(ivBytes, 6)
  return out
}

const headerTagPurpose = Buffer.from("HEADER_TAG:")
const messageKeyPurpose = Buffer.from("MESSAGE_KEY:")
const segmentKeyPurpose = Buffer.from("DEK:")

/** The keys of one message: its header, and the key of each segment. */
export class Message {
  readonly header: Buffer
  readonly plainBytes: number
  private readonly prefix: ReadonlyArray<Uint8Array>
  private readonly messageKey: Buffer
  private epoch = -1
  private segmentKey: Buffer = Buffer.alloc(0)

  private constructor(
    key: Uint8Array,
    readonly parameters: Parameters,
    iv: Uint8Array,
    private readonly aad: Uint8Array
  ) {
    const encoded = params(parameters)
    this.prefix = [encoded, iv]
    this.plainBytes = parameters.segmentBytes - segmentOverhead
    this.header = Buffer.concat([encoded, iv, this.derive(key, headerTagPurpose, headerTagBytes)])
    this.messageKey = this.derive(key, messageKeyPurpose, 48)
  }

  /** A new message, whose initial value is random unless it is given, for known answers. */
  static begin(key: Uint8Array, aad: Uint8Array, parameters: Parameters, iv: Uint8Array = nonces.fresh(ivBytes)) {
    return new Message(key, parameters, iv, aad)
  }

  /** The message that has this header; undefined when the key, the associated data or the parameters are others. */
  static resume(key: Uint8Array, aad: Uint8Array, parameters: Parameters, header: Uint8Array): Message | undefined {
    if (header.length !== headerBytes) return undefined
    const message = new Message(key, parameters, header.subarray(paramBytes, paramBytes + ivBytes), aad)
    return timingSafeEqual(message.header, header) ? message : undefined
  }

  private derive(key: Uint8Array, purpose: Uint8Array, length: number): Buffer {
    return expandBlock("sha384", key, [...this.prefix, purpose, this.aad]).subarray(0, length)
  }

  private keyOf(position: number): Buffer {
    const span = 2 ** (this.parameters.rotationBits ?? rotationBits)
    const epoch = Math.floor(position / span)
    if (epoch !== this.epoch) {
      this.segmentKey = this.derive(this.messageKey, Buffer.concat([segmentKeyPurpose, uint64(epoch * span)]), 32)
      this.epoch = epoch
    }
    return this.segmentKey
  }

  seal(position: number, plaintext: Uint8Array, isLast: boolean, nonce?: Uint8Array): Buffer {
    if (position >= segmentsMax) throw new RangeError("a message has at most 2^40 segments")
    const out = Buffer.allocUnsafe(plaintext.length + segmentOverhead)
    out.writeUInt32BE(isLast ? out.length : notLast, 0)
    if (nonce === undefined) nonces.fill(out, lengthBytes, gcmNonceBytes)
    else out.set(nonce, lengthBytes)
    const iv = out.subarray(lengthBytes, bodyAt)
    gcmSeal(this.keyOf(position), iv, [segmentAad(position, isLast)], plaintext, out, bodyAt)
    return out
  }

  /** `segment`: whole, from its length on. Undefined when it is not the segment of this place. */
  open(position: number, segment: Buffer, isLast: boolean): Buffer | undefined {
    const end = segment.length - gcmTagBytes
    return gcmOpen(
      this.keyOf(position),
      segment.subarray(lengthBytes, bodyAt),
      [segmentAad(position, isLast)],
      segment.subarray(bodyAt, end),
      segment.subarray(end)
    )
  }
}

const uint64 = (value: number): Buffer => {
  const out = Buffer.alloc(8)
  out.writeBigUInt64BE(BigInt(value))
  return out
}

const segmentAad = (position: number, isLast: boolean): Buffer => {
  const out = Buffer.alloc(9)
  out.writeUInt32BE(Math.floor(position / 0x1_0000_0000), 0)
  out.writeUInt32BE(position % 0x1_0000_0000, 4)
  out[8] = isLast ? 1 : 0
  return out
}

/** Bytes that wait for more. As large as they are, up to a bound: most messages are short. */
class Waiting {
  filled = 0
  private buffer = Buffer.alloc(0)

  constructor(private readonly bytesMax: number) {}

  get bytes(): Buffer {
    return this.buffer.subarray(0, this.filled)
  }

  add(piece: Uint8Array): void {
    const filled = this.filled + piece.length
    if (filled > this.buffer.length) {
      const larger = Buffer.allocUnsafe(Math.min(this.bytesMax, Math.max(filled, this.buffer.length * 4)))
      this.buffer.copy(larger, 0, 0, this.filled)
      this.buffer = larger
    }
    this.buffer.set(piece, this.filled)
    this.filled = filled
  }
}

/** Segments out of plaintext that comes in pieces of any size. The last one is known as such only at the end. */
export class Sealer {
  private readonly waiting: Waiting
  private position = 0

  constructor(private readonly message: Message) {
    this.waiting = new Waiting(message.plainBytes)
  }

  push(piece: Uint8Array): ReadonlyArray<Buffer> {
    const { message, waiting } = this
    const out: Array<Buffer> = []
    let at = 0
    while (at < piece.length) {
      // Full, and something follows: it is not the last.
      if (waiting.filled === message.plainBytes) {
        out.push(message.seal(this.position++, waiting.bytes, false))
        waiting.filled = 0
      }
      const left = piece.length - at
      if (waiting.filled === 0 && left > message.plainBytes) {
        out.push(message.seal(this.position++, piece.subarray(at, at + message.plainBytes), false))
        at += message.plainBytes
        continue
      }
      const taken = Math.min(left, message.plainBytes - waiting.filled)
      waiting.add(piece.subarray(at, at + taken))
      at += taken
    }
    return out
  }

  end(): Buffer {
    return this.message.seal(this.position++, this.waiting.bytes, true)
  }
}

/**
 * Plaintext out of segments that come in pieces of any size, from the segment `position` on. Each is given out when it
 * has been authenticated. `end` finds what is cut off; of a range, whose end is no end of the message, it is not asked.
 */
export class Opener {
  private readonly waiting: Waiting
  private isDone = false

  constructor(
    private readonly message: Message,
    private position = 0
  ) {
    this.waiting = new Waiting(message.parameters.segmentBytes)
  }

  push(piece: Uint8Array): ReadonlyArray<Buffer> | Flaw {
    const { waiting } = this
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
    const out: Array<Buffer> = []
    let at = 0
    while (at < bytes.length) {
      if (this.isDone) return "trailing"
      // First the length, then the rest.
      if (waiting.filled < lengthBytes && waiting.filled + bytes.length - at < lengthBytes) {
        waiting.add(bytes.subarray(at))
        return out
      }
      if (waiting.filled > 0 && waiting.filled < lengthBytes) {
        const taken = lengthBytes - waiting.filled
        waiting.add(bytes.subarray(at, at + taken))
        at += taken
      }
      const marked = (waiting.filled > 0 ? waiting.bytes : bytes.subarray(at)).readUInt32BE(0)
      const { segmentBytes } = this.message.parameters
      const length = marked === notLast ? segmentBytes : marked
      if (length < segmentOverhead || length > segmentBytes) return "segment"
      const taken = Math.min(bytes.length - at, length - waiting.filled)
      const isWhole = waiting.filled + taken === length
      if (waiting.filled > 0 || !isWhole) waiting.add(bytes.subarray(at, at + taken))
      const segment = waiting.filled > 0 ? waiting.bytes : bytes.subarray(at, at + taken)
      at += taken
      if (!isWhole) return out
      const isLast = marked !== notLast
      const plaintext = this.message.open(this.position++, segment, isLast)
      if (plaintext === undefined) return "segment"
      waiting.filled = 0
      this.isDone = isLast
      if (plaintext.length > 0) out.push(plaintext)
    }
    return out
  }

  end(): Flaw | undefined {
    return this.isDone ? undefined : "truncated"
  }
}

/**
 * How many bytes the plaintext has when the message has `bytes`, its header left out; undefined when none has so
 * many.
 */
export const plainLength = ({ segmentBytes }: Parameters, bytes: number): number | undefined => {
  const whole = Math.floor(bytes / segmentBytes)
  const rest = bytes % segmentBytes
  if (rest === 0) return whole === 0 ? undefined : bytes - whole * segmentOverhead
  return rest < segmentOverhead ? undefined : bytes - (whole + 1) * segmentOverhead
}

/** How many bytes the segments of a plaintext have. */
export const sealedLength = ({ segmentBytes }: Parameters, plainBytes: number): number =>
  plainBytes + Math.max(1, Math.ceil(plainBytes / (segmentBytes - segmentOverhead))) * segmentOverhead
