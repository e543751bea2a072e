/**
 * How an outcome becomes JSON text and back: a Schema of `CommandStore.execute`, turned into functions once, so that
 * the execution itself knows values and text only.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import type { OutcomeSchema } from "../CommandStore.js"
import { exactly } from "../internal/encoding.js"
import { refuse } from "../internal/validate.js"
import * as Json from "../Json.js"

/** An outcome as it is stored. `unwritten` says why it is not the value itself. */
export interface OutcomeText {
  readonly text: string | null
  readonly unwritten: string | undefined
}

export interface OutcomeCodec<A> {
  readonly is: (value: unknown) => value is A
  /** Never fails: the effect is done, so something must be stored. */
  readonly encode: (value: A) => OutcomeText
  readonly decode: (text: string | null) => Effect.Effect<A, unknown>
}

/** Throws `InvalidInput` for anything but a Schema, and for a Schema none of whose values is JSON when encoded. */
export const codec = <S extends OutcomeSchema>(value: S, what: string): OutcomeCodec<S["Type"]> => {
  if (!Schema.isSchema(value)) return refuse(what, "must be a Schema")
  const schema = value as Schema.Schema<S["Type"], unknown>
  const never = neverJson(AST.encodedAST(schema.ast))
  if (never !== undefined) return refuse(what, `encodes to what is never JSON: ${never}`)
  const encode = exactly(Schema.encodeEither(schema))
  // As strict as the encoding first, or another member of a union might take it.
  const decodeStrictly = Schema.decodeUnknownEither(schema, { onExcessProperty: "error" })
  const decode = Schema.decodeUnknownEither(schema)
  return {
    is: Schema.is(schema),
    // Of a function that returns void the type says nothing about the value.
    encode: AST.isVoidKeyword(schema.ast)
      ? () => ({ text: null, unwritten: undefined })
      : (value) => textOf(Effect.runSyncExit(Effect.suspend(() => encode(value)))),
    decode: (text) =>
      Effect.flatMap(
        Effect.try({ try: (): unknown => (text === null ? undefined : JSON.parse(text)), catch: (cause) => cause }),
        (stored) =>
          isUnwritten(stored)
            ? Effect.fail(new Error(`it could not be written: ${stored[unwrittenKey]}`))
            : Effect.orElse(decodeStrictly(stored), () => decode(stored))
      )
  }
}

/** What is stored instead of an outcome that could not be written: the reason, for repeats and operators. */
const unwrittenKey = "~effect-stores/unwritten"

const isUnwritten = (value: unknown): value is { readonly [unwrittenKey]: unknown } =>
  typeof value === "object" && value !== null && Object.hasOwn(value, unwrittenKey)

/** What is stored of a command that was closed without an outcome. */
const closedKey = "~effect-stores/closed"

/** Without what an error says: that may show what is sealed. */
export const closed = (why: string): string => JSON.stringify({ [closedKey]: why })

/** Why a command was closed, if what is stored is no outcome. */
export const whyClosed = (text: string | null): string | undefined => {
  if (text === null || !text.startsWith(`{"${closedKey}":`)) return undefined
  return `it was closed without an outcome: ${(JSON.parse(text) as { readonly [closedKey]: unknown })[closedKey]}`
}

const unwritten = (why: string): OutcomeText => {
  // A message may quote the whole value.
  const short = why.length > whyMax ? `${why.slice(0, whyMax)}…` : why
  return { text: JSON.stringify({ [unwrittenKey]: short }), unwritten: short }
}

const whyMax = 1_000

const textOf = (encoded: Exit.Exit<unknown, unknown>): OutcomeText => {
  if (Exit.isFailure(encoded)) return unwritten(`does not fit the schema: ${messageOf(encoded.cause)}`)
  if (encoded.value === undefined) return { text: null, unwritten: undefined }
  return Either.match(
    Either.orElse(Json.encode(encoded.value, "outcome"), () => mended(encoded.value)),
    {
      onLeft: ({ message }) => unwritten(message),
      onRight: (text) => ({ text, unwritten: undefined })
    }
  )
}

const messageOf = (cause: Cause.Cause<unknown>): string => {
  try {
    const error = Cause.squash(cause)
    return error instanceof Error ? String(error.message) : String(error)
  } catch {
    return "it threw"
  }
}

/** The value's text after `mend`, or why it has none. */
const mended = (value: unknown): Either.Either<string, { readonly message: string }> =>
  Either.flatMap(
    Either.try({ try: () => mend(value, new Map(), 0), catch: (cause) => ({ message: messageOf(Cause.die(cause)) }) }),
    (value) => Json.encode(value, "outcome")
  )

/** The value with 0 for -0 and without properties that are `undefined`. What cannot be mended is left as it is. */
const mend = (value: unknown, done: Map<object, unknown>, depth: number): unknown => {
  if (value === 0) return 0
  if (typeof value !== "object" || value === null || depth > Json.depthMax) return value
  const known = done.get(value)
  if (known !== undefined) return known
  if (Array.isArray(value)) {
    const copy: Array<unknown> = []
    done.set(value, copy)
    // With its holes, which JSON has not.
    copy.length = value.length
    for (const i of value.keys()) if (i in value) copy[i] = mend(value[i], done, depth + 1)
    return copy
  }
  const prototype: unknown = Object.getPrototypeOf(value)
  if ((prototype !== Object.prototype && prototype !== null) || Object.getOwnPropertySymbols(value).length > 0) {
    return value
  }
  const copy: Record<string, unknown> = Object.create(null)
  done.set(value, copy)
  for (const [key, member] of Object.entries(value)) {
    if (member !== undefined) copy[key] = mend(member, done, depth + 1)
  }
  return copy
}

/** A part of an encoded form that keeps each of its values from being JSON, if there is one. */
const neverJson = (ast: AST.AST): string | undefined => {
  switch (ast._tag) {
    case "BigIntKeyword":
    case "SymbolKeyword":
    case "UniqueSymbol":
      return String(ast)
    case "Literal":
      return typeof ast.literal === "bigint" ? String(ast) : undefined
    case "Declaration":
      // Those of Effect, whose values are instances. Of an application's own the values may be plain objects.
      return AST.TypeConstructorAnnotationId in ast.annotations ? String(ast) : undefined
    case "Refinement":
      return neverJson(ast.from)
    case "TupleType":
      return firstOf(ast.elements.filter(({ isOptional }) => !isOptional).map(({ type }) => type))
    case "TypeLiteral":
      return firstOf(ast.propertySignatures.filter(({ isOptional }) => !isOptional).map(({ type }) => type))
    case "Union": {
      const parts = ast.types.map(neverJson)
      return parts.every((part) => part !== undefined) ? parts[0] : undefined
    }
    default:
      return undefined
  }
}

const firstOf = (asts: ReadonlyArray<AST.AST>): string | undefined =>
  asts.map(neverJson).find((part) => part !== undefined)
