/**
 * The keys that a process has: which one seals, and each by its id. Lookup is exact: no key is tried on what another
 * has sealed.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { type CryptoError, InvalidKeyLength, KeyDisabled, UnknownKeyId } from "../../CryptoError.js"
import type { InvalidInput } from "../../Errors.js"
import { array, fields, identifier, invalid, judged, oneOf, Parts, refuse } from "../../internal/validate.js"
import type { FindKey } from "../formats/envelope.js"
import { isRingId, isWeak, type Key, type KeyStatus, keyBytes, make as makeKey } from "./key.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface KeyInfo {
  readonly id: string
  readonly status: KeyStatus
  readonly primary: boolean
}

export interface KeyRing {
  readonly keys: ReadonlyArray<KeyInfo>
  /** The key that seals. */
  readonly primary: Effect.Effect<Key, CryptoError>
  /**
   * Looks keys up by id, once those that are named here are at hand, or cannot be had: that is for what needs them to
   * fail with, so that nothing else does.
   */
  readonly finding: (ids: ReadonlySet<string>) => Effect.Effect<FindKey>
}

/**
 * A key of a ring.
 *
 * @since 0.1.0
 * @category models
 */
export interface KeyOptions {
  /** 1 to 8 of `A-Z a-z 0-9 . _ -`. It is stored beside all that the key seals, so it is never given to another key. */
  readonly id: string
  /** 32 bytes, as they are or as text in hexadecimal (64 digits) or base64url (43 characters). */
  readonly key: Redacted.Redacted<string | Uint8Array>
  /** Default `enabled`. */
  readonly status?: KeyStatus | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface RingOptions {
  readonly keys: ReadonlyArray<KeyOptions>
  /** The id of the key that seals: one of `keys`, and enabled. */
  readonly primary: string
}

const statuses = ["enabled", "decryptOnly", "disabled"] as const
const keysMax = 1_000

/** What all kinds of ring check of their keys: ids, statuses, and that there is one primary. Throws `InvalidInput`. */
export const checkedKeys = <const Field extends string>(
  keys: unknown,
  primary: unknown,
  field: Field
): ReadonlyArray<KeyInfo & { readonly given: unknown }> => {
  const seen = new Set<string>()
  const { all, part } = new Parts()
  const each = array(keys, "keys", 1, keysMax).map((value, i) =>
    part(() => {
      const given = fields(value, `keys[${i}]`, ["id", field, "status"])
      const { id } = given
      if (!isRingId(id)) return refuse(`keys[${i}].id`, "must be 1 to 8 of A-Z a-z 0-9 . _ -")
      if (seen.has(id)) return refuse(`keys[${i}].id`, `${id} is the id of another key too`)
      seen.add(id)
      return {
        id,
        status: given.status === undefined ? "enabled" : oneOf(given.status, `keys[${i}].status`, statuses),
        primary: id === primary,
        given: given[field]
      } as const
    })
  )
  const name = part(() => identifier(primary, "primary"))
  part(() => {
    const found = each.map((key) => key()).find(({ id }) => id === name())
    if (found === undefined) return refuse("primary", "is none of the keys")
    return found.status === "enabled" ? undefined : refuse("primary", `the key ${found.id} is ${found.status}`)
  })
  return all(() => each.map((key) => key()))
}

/** All that is wrong with the variables of a ring. Throws `InvalidInput`. */
export const checkRing = (options: RingOptions): void => {
  const { all, part } = new Parts()
  part(() => checkedKeys(options.keys, options.primary, "key"))
  for (const { id, key } of judged(() => options.keys) ?? []) {
    part(() => {
      try {
        keyOf(id, key)
      } catch (error) {
        if (error instanceof InvalidKeyLength)
          return refuse("keys", `the key ${error.key} has ${error.length} bytes: there must be ${keyBytes}`)
        const { what, why } = invalid(error)
        return refuse("keys", `${what} ${why}`)
      }
    })
  }
  all(() => undefined)
}

/** A ring whose keys are all at hand. */
export const make = (options: RingOptions): Either.Either<KeyRing, InvalidInput | InvalidKeyLength> =>
  Either.try({
    try: () => {
      const infos = checkedKeys(options.keys, options.primary, "key")
      const keys = new Map(infos.map(({ given, id }) => [id, keyOf(id, given)]))
      const find = finder(infos, (id) => keys.get(id) as Key)
      const finding = Effect.succeed(find)
      return {
        keys: infos.map(({ id, primary, status }) => ({ id, primary, status })),
        primary: Effect.succeed(keys.get(options.primary) as Key),
        finding: () => finding
      }
    },
    catch: (error) => (error instanceof InvalidKeyLength ? error : invalid(error))
  })

/** `get` has every key that is not disabled and that was asked for before, or says why not. */
export const finder = (
  infos: ReadonlyArray<KeyInfo>,
  get: (id: string, place: () => string) => Key | CryptoError
): FindKey => {
  const statusOf = new Map(infos.map(({ id, status }) => [id, status]))
  return (keyId, place) => {
    const status = statusOf.get(keyId)
    if (status === undefined) return new UnknownKeyId({ keyId, place: place() })
    return status === "disabled" ? new KeyDisabled({ keyId, place: place() }) : get(keyId, place)
  }
}

const keyOf = (id: string, given: unknown): Key => {
  if (!Redacted.isRedacted(given)) return refuse(`the key ${id}`, "must be redacted")
  const bytes = keyBytesOf(Redacted.value(given), id)
  if (isWeak(bytes)) return refuse(`the key ${id}`, "is 32 times the same byte")
  const key = makeKey(id, bytes)
  bytes.fill(0)
  return key
}

/** A copy of the bytes. Throws, with no byte of the key in what it throws. */
export const keyBytesOf = (value: unknown, id: string): Uint8Array => {
  const bytes = value instanceof Uint8Array ? Uint8Array.from(value) : fromText(value, id)
  if (bytes.length !== keyBytes) throw new InvalidKeyLength({ key: id, length: bytes.length })
  return bytes
}

const fromText = (value: unknown, id: string): Uint8Array => {
  if (typeof value !== "string") return refuse(`the key ${id}`, "must be text or bytes")
  // 64 hexadecimal digits are base64url too, of 48 bytes: what may be hexadecimal is.
  if (/^(?:[0-9a-fA-F]{2})*$/.test(value)) return Buffer.from(value, "hex")
  if (/^[A-Za-z0-9_-]*={0,2}$/.test(value)) return Buffer.from(value, "base64url")
  return refuse(`the key ${id}`, "must be hexadecimal or base64url")
}
