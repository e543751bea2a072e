/**
 * What readers get in the place of what was forgotten: a value of the type's Schema, declared once and checked when the
 * layer is built.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { EncodedCommand } from "../../commandStore/CommandStoreEncoded.js"
import { InvalidInput } from "../../Errors.js"
import type { EncodedEvent } from "../../eventStore/EventStoreEncoded.js"
import { tagged } from "../../internal/taggedPayload.js"
import { array, checked, describe, identifier, options as optionsOf, payload, refuse } from "../../internal/validate.js"
import type { Json, JsonObject } from "../../Json.js"

interface Tagged {
  readonly _tag: string
}

/** What metadata says of a record that was replaced. */
const mark = "~effect-stores/shredded"

const markedMetadata = JSON.stringify({ [mark]: true })

export const isReplaced = ({ metadata }: { readonly metadata: JsonObject }): boolean => metadata[mark] === true

/**
 * @since 0.1.0
 * @category models
 */
export interface ReplacementOptions<O = never, OI = never> {
  /** Only in this domain. Default: of this type in all domains for which nothing else is declared. */
  readonly domain?: string | undefined
  /** Of a command that has an outcome, in its place. Default null. */
  readonly outcome?: { readonly schema: Schema.Schema<O, OI>; readonly value: NoInfer<O> } | undefined
}

const TypeId: unique symbol = Symbol.for("effect-stores/Replacement")

interface Declared {
  readonly domain: string | undefined
  readonly type: string
  /** JSON text. */
  readonly data: string
  readonly outcome: string
}

/**
 * What stands for events or commands of a type once they are forgotten; made by `replacement`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Replacement {
  readonly [TypeId]: (what: string) => Effect.Effect<Declared, InvalidInput>
}

export const replacement = <A extends Tagged, I extends Tagged, O = never, OI = never>(
  schema: Schema.Schema<A, I>,
  value: NoInfer<A>,
  options?: ReplacementOptions<O, OI>
): Replacement => ({
  [TypeId]: (what) =>
    Effect.gen(function* () {
      if (!Schema.isSchema(schema)) return yield* new InvalidInput({ what, why: "has no Schema" })
      const given = yield* checked(() => optionsOf(options, what, ["domain", "outcome"]), Effect.succeed)
      const codec = tagged(schema)
      const { data, type } = yield* codec.encode(value, what, {})
      const unfit = (cause: unknown) =>
        new InvalidInput({
          what,
          why: `would not be read by its Schema: ${cause instanceof Error ? cause.message : ""}`
        })
      const text = yield* checked(() => payload(data, what), Effect.succeed)
      yield* codec.decode({ type, data: JSON.parse(text) as Json }, (_, cause) => unfit(cause))
      const outcome =
        options?.outcome === undefined
          ? null
          : yield* Effect.mapError(Schema.encode(options.outcome.schema)(options.outcome.value), unfit)
      return yield* checked(
        () => ({
          domain: given.domain === undefined ? undefined : identifier(given.domain, `${what}.domain`),
          type,
          data: text,
          outcome: payload(outcome, `${what}.outcome`)
        }),
        Effect.succeed
      )
    })
})

/**
 * What readers of events and commands get in the place of what was forgotten. Where nothing is declared for a type,
 * whatever reads it fails with `Shredded`, a page or a feed with a row of it as a whole.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReplacementsOptions {
  readonly events?: ReadonlyArray<Replacement> | undefined
  readonly commands?: ReadonlyArray<Replacement> | undefined
}

/** Rows as readers see them; undefined where nothing is declared. */
export interface Replacements {
  readonly event: (row: EncodedEvent) => EncodedEvent | undefined
  readonly command: (row: EncodedCommand) => EncodedCommand | undefined
}

const replacementsMax = 10_000

const keyOf = (domain: string | undefined, type: string): string => `${domain ?? ""}\0${type}`

const declarations = (
  value: unknown,
  what: string
): Effect.Effect<(row: { readonly domain: string; readonly type: string }) => Declared | undefined, InvalidInput> =>
  checked(
    () => (value === undefined ? [] : array(value, what, 0, replacementsMax)),
    (given) =>
      Effect.gen(function* () {
        const all = new Map<string, Declared>()
        for (const [i, one] of given.entries()) {
          const name = `${what}[${i}]`
          const declared = yield* checked(
            () => replacementIn(one, name),
            (one) => one[TypeId](name)
          )
          const key = keyOf(declared.domain, declared.type)
          if (all.has(key)) return yield* new InvalidInput({ what: name, why: `declares ${declared.type} again` })
          all.set(key, declared)
        }
        return ({ domain, type }) => all.get(keyOf(domain, type)) ?? all.get(keyOf(undefined, type))
      })
  )

const replacementIn = (value: unknown, what: string): Replacement =>
  typeof value === "object" && value !== null && TypeId in value
    ? (value as Replacement)
    : refuse(what, `must be made by replacement, not ${describe(value)}`)

/** Checks each against its Schema. */
export const replacementsOf = (value: ReplacementsOptions | undefined): Effect.Effect<Replacements, InvalidInput> =>
  checked(
    () => optionsOf(value, "replacements", ["events", "commands"]),
    ({ commands, events }) =>
      Effect.map(
        Effect.all([declarations(events, "replacements.events"), declarations(commands, "replacements.commands")]),
        ([event, command]): Replacements => ({
          event: (row) => {
            const declared = event(row)
            return declared && { ...row, data: declared.data, metadata: markedMetadata, keyId: null }
          },
          command: (row) => {
            const declared = command(row)
            if (declared === undefined) return undefined
            const outcome = row.outcome === null ? null : declared.outcome
            return { ...row, data: declared.data, metadata: markedMetadata, keyId: null, outcome, outcomeKeyId: null }
          }
        })
      )
  )
