/**
 * The fingerprint of a Schema: equal for equal structure, different when a field, a type, a check or a transformation's
 * ends change. It cannot see the code of a transformation.
 */
import { createHash } from "node:crypto"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"

/** 64 bits, in hexadecimal; `more` is hashed as it is. */
export const fingerprint = (schema: Schema.Schema.Any, more = ""): string =>
  createHash("sha256")
    .update(`${describe(schema.ast, new Map())}${more}`)
    .digest("hex")
    .slice(0, 16)

/**
 * How many recursions are followed. A recursive Schema made by a function, and the type side of any recursive Schema,
 * has a new AST at each step down, so remembering the ASTs already met is not enough to end.
 */
const suspendedMax = 100

/** `suspended` numbers the ASTs already met, so that the description of a recursive Schema ends. */
const describe = (ast: AST.AST, suspended: Map<AST.AST, number>): string => {
  const list = (asts: ReadonlyArray<AST.AST>): string => asts.map((ast) => describe(ast, suspended)).join(",")
  switch (ast._tag) {
    case "Literal":
      return `${typeof ast.literal}:${JSON.stringify(String(ast.literal))}`
    case "UniqueSymbol":
      return `symbol ${JSON.stringify(String(ast.symbol))}`
    case "Enums":
      return `enum ${JSON.stringify(ast.enums)}`
    case "TemplateLiteral": {
      const spans = ast.spans.map((span) => `<${describe(span.type, suspended)}>${JSON.stringify(span.literal)}`)
      return `template ${JSON.stringify(ast.head)}${spans.join("")}`
    }
    case "Declaration":
      // A list and a set may have the same parameters and the same encoded form, and still differ.
      return `${JSON.stringify(identifierOf(ast))} ${constructorOf(ast)}(${list(ast.typeParameters)})`
    case "Refinement":
      return `${describe(ast.from, suspended)} where ${JSON.stringify(identifierOf(ast))} ${checkOf(ast)}`
    case "Transformation": {
      const { from, to, transformation } = ast
      const renamed =
        transformation._tag === "TypeLiteralTransformation"
          ? transformation.propertySignatureTransformations.map(
              ({ from, to }) => `${JSON.stringify(String(from))}:${JSON.stringify(String(to))}`
            )
          : []
      // A transformation from hexadecimal and one from base64 have the same ends; only their names differ.
      const name = JSON.stringify(identifierOf(ast))
      return `(${describe(from, suspended)} <-> ${describe(to, suspended)} ${name} ${renamed.sort().join(",")})`
    }
    case "TupleType": {
      const elements = ast.elements.map(
        ({ isOptional, type }) => `${describe(type, suspended)}${isOptional ? "?" : ""}`
      )
      return `[${elements.join(",")};${list(ast.rest.map(({ type }) => type))}]`
    }
    case "TypeLiteral": {
      // The order of fields does not matter.
      const fields = ast.propertySignatures
        .map(({ isOptional, name, type }) => [JSON.stringify(String(name)), isOptional ? "?" : "", type] as const)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, optional, type]) => `${name}${optional}:${describe(type, suspended)}`)
      const indexes = ast.indexSignatures.map(({ parameter, type }) => `[${list([parameter])}]:${list([type])}`)
      return `{${[...fields, ...indexes].join(",")}}`
    }
    case "Union":
      return `(${ast.types.map((type) => describe(type, suspended)).join("|")})`
    case "Suspend": {
      const known = suspended.get(ast)
      if (known !== undefined) return `#${known}`
      const number = suspended.size
      if (number === suspendedMax) return "#"
      suspended.set(ast, number)
      return `#${number}=${describe(ast.f(), suspended)}`
    }
    default:
      return ast._tag
  }
}

const identifierOf = (ast: AST.Annotated): string =>
  Option.getOrElse(
    Option.orElse(AST.getIdentifierAnnotation(ast), () => AST.getTitleAnnotation(ast)),
    () => ""
  )

const constructorOf = (ast: AST.Annotated): string =>
  Option.match(AST.getTypeConstructorAnnotation(ast), { onNone: () => "", onSome: ({ _tag }) => JSON.stringify(_tag) })

/** How a check describes itself: `minLength(1)` and `minLength(2)` may have the same name. */
const checkOf = (ast: AST.Annotated): string => {
  const parameters = Option.map(AST.getSchemaIdAnnotation(ast), (id) => ast.annotations[id])
  return JSON.stringify([parameters, AST.getJSONSchemaAnnotation(ast)].map(Option.getOrNull), printable)
}

/** Bounds may have types that JSON does not have. */
const printable = (_: string, value: unknown): unknown =>
  typeof value === "bigint" || value instanceof RegExp ? String(value) : value
