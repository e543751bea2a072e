/**
 * CryptoService from a ring of keys and its options: checks of the options, and the two functions for what is no
 * store's.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { CryptoError } from "../CryptoError.js"
import type { InvalidInput } from "../Errors.js"
import { checked, describe, fields, integer, oneOf, refuse } from "../internal/validate.js"
import { ContextWriter } from "./formats/context.js"
import * as envelope from "./formats/envelope.js"
import * as nonces from "./formats/nonces.js"
import { inTurns } from "./formats/steps.js"
import type { KeyRing } from "./keys/ring.js"
import { type Cipher, openedInTurns, type Policy, type Watermark } from "./sealer.js"

/**
 * Where a migration has begun: a plain row above it was not there then, and is `NotEncrypted`. Without a value all
 * plain rows of that kind are read.
 *
 * @since 0.1.0
 * @category models
 */
export interface WatermarkOptions {
  /** The greatest position of a plain event: `EventStore.head` at the start of the migration. */
  readonly events?: number | undefined
  /** The greatest position of a plain command. */
  readonly commands?: number | undefined
  /** The latest time of a plain snapshot or object. With it no plain cache entry is read: none says when it was put. */
  readonly createdUntil?: DateTime.Utc | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PolicyOptions {
  /** Default `RequireEncrypt`. */
  readonly policy?: Policy | undefined
  /** For `EncryptAllowPlaintext` only. */
  readonly watermark?: WatermarkOptions | undefined
  /**
   * `pooled` (default) draws random bytes for many nonces at once. `direct` draws them for each: for machines that are
   * cloned, or restored from a snapshot, while the process runs.
   */
  readonly nonces?: "pooled" | "direct" | undefined
}

/**
 * The members of the service: an application seals and opens with it what is in no store. Seals of stores use the rest.
 *
 * @since 0.1.0
 * @category models
 */
export interface CryptoServiceShape extends Cipher {
  /**
   * Seals bytes or text that are in no store, in the format R1. `place` is bound: what was sealed for one place does
   * not open at another.
   */
  readonly seal: (place: string, plaintext: string | Uint8Array) => Effect.Effect<Uint8Array, CryptoError>
  /** Opens what `seal` gave, at the same place. */
  readonly open: (place: string, sealed: Uint8Array) => Effect.Effect<Uint8Array, CryptoError>
}

const policies = ["RequireEncrypt", "EncryptAllowPlaintext", "ForbidEncryptAllowDecrypt"] as const

export const make = (
  ring: KeyRing,
  { nonces: source, policy: given, watermark }: PolicyOptions
): Effect.Effect<CryptoServiceShape, InvalidInput> =>
  checked(
    () => {
      const policy = given === undefined ? "RequireEncrypt" : oneOf(given, "policy", policies)
      if (watermark !== undefined && policy !== "EncryptAllowPlaintext")
        return refuse("watermark", `is for EncryptAllowPlaintext, not for ${policy}`)
      const isDirect = source !== undefined && oneOf(source, "nonces", ["pooled", "direct"]) === "direct"
      return { policy, watermark: watermarkOf(watermark), isDirect }
    },
    ({ isDirect, policy, watermark }) =>
      Effect.sync(() => {
        // One for all services of the process: whoever asks for it needs it of each.
        if (isDirect) nonces.setDirect(true)
        return {
          ring,
          policy,
          watermark,
          subjects: undefined,
          seal: (place, plaintext) =>
            Effect.flatMap(ring.primary, (key) => inTurns(() => envelope.sealing(key, contextOf(place), plaintext))),
          open: (place, sealed) =>
            Effect.suspend(() => {
              const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
              const keyId = envelope.keyIdOf(bytes, () => place)
              if (typeof keyId !== "string") return Effect.fail(keyId)
              return Effect.flatMap(ring.finding(new Set([keyId])), (find) =>
                openedInTurns(() => envelope.opening(find, contextOf(place), bytes, () => place, false))
              )
            })
        }
      })
  )

const contextOf = (place: string): Uint8Array => new ContextWriter().text("kind", "own").text("key", place).bytes

const watermarkOf = (value: WatermarkOptions | undefined): Watermark => {
  const given = value === undefined ? {} : fields(value, "watermark", ["events", "commands", "createdUntil"])
  const position = (name: "events" | "commands") =>
    given[name] === undefined ? Number.MAX_SAFE_INTEGER : integer(given[name], `watermark.${name}`, 0)
  const { createdUntil } = given
  if (createdUntil !== undefined && !DateTime.isDateTime(createdUntil))
    return refuse("watermark.createdUntil", `must be a DateTime, not ${describe(createdUntil)}`)
  return {
    events: position("events"),
    commands: position("commands"),
    createdUntilMs: createdUntil === undefined ? Number.MAX_SAFE_INTEGER : createdUntil.epochMillis
  }
}
