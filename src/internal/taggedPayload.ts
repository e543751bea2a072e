/**
 * How events and commands of a Schema are stored: a value's `_tag` is the type, and its other members are the data.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as AST from "effect/SchemaAST"
import { InvalidInput } from "../Errors.js"
import type { Json } from "../Json.js"
import { exactly } from "./encoding.js"

interface Tagged {
  readonly _tag: string
}

export interface Stored {
  readonly type: string
  readonly data: Json
}

/** The value that a stored one is for its Schema. */
export const taggedPayload = ({ data, type }: Stored): unknown =>
  typeof data === "object" && data !== null && !Array.isArray(data) ? { ...data, _tag: type } : data

export const tagged = <A extends Tagged, I extends Tagged, R>(schema: Schema.Schema<A, I, R>) => {
  const encode = exactly(Schema.encode(schema))
  const decode = Schema.decodeUnknown(schema)
  return {
    /** `what` names the value in errors. */
    encode: <E extends object>(value: A, what: string, envelope: E) =>
      Effect.mapBoth(encode(value), {
        onFailure: (cause) => new InvalidInput({ what, why: `does not fit the schema: ${cause.message}` }),
        onSuccess: ({ _tag, ...data }) => ({ ...envelope, type: _tag, data })
      }),
    /** An Exit where the schema decodes without waiting, as nearly all do: a fiber takes longer than the parser. */
    decode: <S extends Stored, E>(
      stored: S,
      refail: (stored: S, cause: unknown) => E
    ): Effect.Effect<S & { readonly data: A }, E, R> => {
      const decoded = decode(taggedPayload(stored))
      if (!Either.isEither(decoded)) {
        return Effect.mapBoth(decoded, {
          onFailure: (cause) => refail(stored, cause),
          onSuccess: (data) => ({ ...stored, data })
        })
      }
      const known = decoded as Either.Either<A, unknown>
      return Either.isRight(known)
        ? Exit.succeed({ ...stored, data: known.right })
        : Exit.fail(refail(stored, known.left))
    }
  }
}

/** The types of what fits a Schema, from its encoded side. Undefined where it does not tell. */
export const tagsOf = <A, I, R>(schema: Schema.Schema<A, I, R>): ReadonlyArray<string> | undefined =>
  tagsIn(Schema.encodedSchema(schema).ast)

const tagsIn = (ast: AST.AST): ReadonlyArray<string> | undefined => {
  switch (ast._tag) {
    case "Union": {
      const tags = ast.types.map(tagsIn)
      return tags.every((some) => some !== undefined) ? [...new Set(tags.flat())] : undefined
    }
    case "TypeLiteral": {
      const tag = ast.propertySignatures.find(({ name }) => name === "_tag")?.type
      return tag === undefined ? undefined : literalsOf(tag)
    }
    case "Refinement":
    case "Transformation":
      return tagsIn(ast.from)
    case "Suspend":
      return tagsIn(ast.f())
    default:
      return undefined
  }
}

const literalsOf = (ast: AST.AST): ReadonlyArray<string> | undefined => {
  if (ast._tag === "Literal") return typeof ast.literal === "string" ? [ast.literal] : undefined
  if (ast._tag !== "Union") return undefined
  const literals = ast.types.map(literalsOf)
  return literals.every((some) => some !== undefined) ? literals.flat() : undefined
}
