/**
 * What sealing, opening and keys can fail with. No error carries a payload, a key or a nonce: only which key and which
 * place. All are exported again by `CryptoService`, where users find them.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

const placed = { keyId: Schema.String, place: Schema.String }

/**
 * A key of a ring is not 32 bytes long. `key` is its id.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidKeyLength extends Schema.TaggedError<InvalidKeyLength>("effect-stores/InvalidKeyLength")(
  "InvalidKeyLength",
  { key: Schema.String, length: Schema.Number }
) {
  override get message(): string {
    return `the key ${this.key} has ${this.length} bytes, not 32`
  }
}

/**
 * The store has been used with another key under this id. Nothing was written with this one.
 *
 * @since 0.1.0
 * @category errors
 */
export class KeyCheckFailed extends Schema.TaggedError<KeyCheckFailed>("effect-stores/KeyCheckFailed")(
  "KeyCheckFailed",
  { keyId: Schema.String, store: Schema.String }
) {
  override get message(): string {
    return `the ${this.store} has been used with another key ${this.keyId}`
  }
}

/**
 * What is stored was sealed with a key that the ring does not have.
 *
 * @since 0.1.0
 * @category errors
 */
export class UnknownKeyId extends Schema.TaggedError<UnknownKeyId>("effect-stores/UnknownKeyId")(
  "UnknownKeyId",
  placed
) {
  readonly retryable = false
  override get message(): string {
    return `${this.place} is sealed with the key ${this.keyId}, which the ring does not have`
  }
}

/**
 * What is stored was sealed with a key that the ring has as `disabled`, or that its provider has.
 *
 * @since 0.1.0
 * @category errors
 */
export class KeyDisabled extends Schema.TaggedError<KeyDisabled>("effect-stores/KeyDisabled")("KeyDisabled", placed) {
  readonly retryable = false
  override get message(): string {
    return `${this.place} needs the key ${this.keyId}, which is disabled`
  }
}

/**
 * The ring's key of this id is not the one that sealed it.
 *
 * @since 0.1.0
 * @category errors
 */
export class WrongKey extends Schema.TaggedError<WrongKey>("effect-stores/WrongKey")("WrongKey", placed) {
  readonly retryable = false
  override get message(): string {
    return `${this.place} was sealed with another key ${this.keyId}, or its header was changed`
  }
}

/**
 * What is stored was changed, or moved here from another place.
 *
 * @since 0.1.0
 * @category errors
 */
export class Tampered extends Schema.TaggedError<Tampered>("effect-stores/Tampered")("Tampered", placed) {
  readonly retryable = false
  override get message(): string {
    return `${this.place}, sealed with the key ${this.keyId}, was changed or moved`
  }
}

/**
 * What is stored ends before its end, or goes on behind it.
 *
 * @since 0.1.0
 * @category errors
 */
export class Truncated extends Schema.TaggedError<Truncated>("effect-stores/Truncated")("Truncated", {
  place: Schema.String
}) {
  readonly retryable = false
  override get message(): string {
    return `${this.place} is not whole`
  }
}

/**
 * What is stored is in no format that this version reads.
 *
 * @since 0.1.0
 * @category errors
 */
export class UnsupportedFormat extends Schema.TaggedError<UnsupportedFormat>("effect-stores/UnsupportedFormat")(
  "UnsupportedFormat",
  { place: Schema.String, why: Schema.String }
) {
  readonly retryable = false
  override get message(): string {
    return `${this.place}: ${this.why}`
  }
}

/**
 * What is stored is plain, and the policy does not accept that there.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotEncrypted extends Schema.TaggedError<NotEncrypted>("effect-stores/NotEncrypted")("NotEncrypted", {
  place: Schema.String
}) {
  readonly retryable = false
  override get message(): string {
    return `${this.place} is not encrypted`
  }
}

/**
 * The key of the subject whose this is was destroyed: nobody can read it any more.
 *
 * @since 0.1.0
 * @category errors
 */
export class Shredded extends Schema.TaggedError<Shredded>("effect-stores/Shredded")("Shredded", placed) {
  readonly retryable = false
  override get message(): string {
    return `${this.place} was of a subject that has been forgotten (key ${this.keyId})`
  }
}

/**
 * The subject whose this would be has been forgotten, so nothing is written for it.
 *
 * @since 0.1.0
 * @category errors
 */
export class SubjectShredded extends Schema.TaggedError<SubjectShredded>("effect-stores/SubjectShredded")(
  "SubjectShredded",
  { place: Schema.String }
) {
  readonly retryable = false
  override get message(): string {
    return `${this.place} is of a subject that has been forgotten`
  }
}

/**
 * A provider of keys did not do what it was asked to. `retryable` when it may later.
 *
 * @since 0.1.0
 * @category errors
 */
export class KeyProviderError extends Schema.TaggedError<KeyProviderError>("effect-stores/KeyProviderError")(
  "KeyProviderError",
  {
    operation: Schema.String,
    reason: Schema.Literal("unavailable", "denied", "disabled", "invalidCiphertext"),
    /** Which key, or what the provider said; no key material. */
    detail: Schema.String
  }
) {
  get retryable(): boolean {
    return this.reason === "unavailable"
  }
  override get message(): string {
    return `the key provider could not ${this.operation} (${this.reason}): ${this.detail}`
  }
}

/**
 * What sealing a record and opening it can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type CryptoError =
  | UnknownKeyId
  | KeyDisabled
  | WrongKey
  | Tampered
  | Truncated
  | UnsupportedFormat
  | NotEncrypted
  | Shredded
  | SubjectShredded
  | KeyProviderError
