/**
 * JSON payloads: the type, and the one strict encoder through which every payload enters a store.
 *
 * `JSON.stringify` silently changes what JSON cannot express (`NaN` becomes `null`, `-0` becomes `0`, a `Date` becomes
 * a string). A store must return what it was given, so the encoder refuses all of it and names the path of the
 * offending value. Only a property that is `undefined` is left out, as everywhere in JSON: absent and `undefined` mean
 * the same to nearly all programs, and `Schema.optional` encodes to it. It checks and writes in one walk: what was
 * checked is what is stored, even if the value has getters or is a proxy.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { InvalidInput } from "./Errors.js"

/**
 * @since 0.1.0
 * @category models
 */
export type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [key: string]: Json }

/**
 * @since 0.1.0
 * @category models
 */
export type JsonObject = { readonly [key: string]: Json }

/**
 * Deepest accepted nesting of arrays and objects. V8 overflows its stack when it writes about 4,200 levels, and fewer
 * when called from deep in a program. A value that was read could then not be written back.
 *
 * @since 0.1.0
 * @category limits
 */
export const depthMax = 512

/**
 * Largest accepted payload, in UTF-8 bytes of its JSON text: 16 MiB.
 *
 * @since 0.1.0
 * @category limits
 */
export const payloadBytesMax = 16 * 1024 * 1024

/**
 * Encodes a value as JSON text, or names the part of it that JSON would change. Errors begin with the name `what`.
 *
 * A property that is `undefined` is left out. Refused: `undefined` anywhere else, functions, symbols and symbol keys,
 * bigint, `NaN`, `Infinity`, `-0`, sparse arrays, arrays with extra properties, anything but plain objects and arrays
 * (so `Date`, `Map`, class instances), objects with a `toJSON`, an own `__proto__` key (it turns into a prototype in
 * many decoders), cycles, nesting beyond `depthMax`, text beyond `payloadBytesMax`, and getters that throw. Lone
 * surrogates and NUL are kept exactly: JSON escapes them.
 *
 * @since 0.1.0
 * @category encoding
 */
export const encode = (value: unknown, what: string): Either.Either<string, InvalidInput> => {
  const writer = new Writer()
  try {
    writer.write(value, 0)
    if (writer.out.length * 3 > payloadBytesMax && Buffer.byteLength(writer.out) > payloadBytesMax) writer.refuseSize()
    return Either.right(writer.out)
  } catch (error) {
    return Either.left(new InvalidInput({ what: writer.pathFrom(what), why: whyOf(error) }))
  }
}

// What a getter or a proxy throws may itself throw when it is read.
const whyOf = (thrown: unknown): string => {
  try {
    if (thrown instanceof Refusal) return thrown.why
    return `could not be read: ${thrown instanceof Error ? String(thrown.message) : "it threw"}`
  } catch {
    return "could not be read: it threw"
  }
}

class Refusal {
  constructor(readonly why: string) {}
}

const needsEscape = /["\\\u0000-\u001f\ud800-\udfff]/

const quote = (text: string): string => (needsEscape.test(text) ? JSON.stringify(text) : `"${text}"`)

class Writer {
  out = ""
  private readonly path: Array<string | number> = []
  private readonly ancestors: Array<object> = []

  write(value: unknown, depth: number): void {
    switch (typeof value) {
      case "string":
        this.out += quote(value)
        break
      case "number":
        if (!Number.isFinite(value)) throw new Refusal(`${value} is not a JSON number`)
        if (Object.is(value, -0)) throw new Refusal("-0 would become 0")
        this.out += value
        break
      case "boolean":
        this.out += value ? "true" : "false"
        break
      case "object":
        if (value === null) this.out += "null"
        else this.writeContainer(value, depth)
        break
      default:
        throw new Refusal(`${typeof value} is not JSON`)
    }
    // The number of characters is a lower bound of bytes. Without this check, a small value with shared parts could
    // expand without end.
    if (this.out.length > payloadBytesMax) this.refuseSize()
  }

  refuseSize(): never {
    this.path.length = 0
    throw new Refusal(`its JSON text exceeds ${payloadBytesMax} bytes`)
  }

  pathFrom(what: string): string {
    let text = what
    // A path may be hundreds of levels deep; its first steps are enough to find the place.
    for (const step of this.path.slice(0, 16)) text += typeof step === "number" ? `[${step}]` : `.${step.slice(0, 64)}`
    return this.path.length > 16 ? `${text}…` : text
  }

  private writeContainer(value: object, depth: number): void {
    if (depth >= depthMax) {
      const cyclic = this.ancestors.includes(value)
      throw new Refusal(cyclic ? "contains itself" : `is nested deeper than ${depthMax} levels`)
    }
    // It is among the keys only if it is enumerable, but JSON calls it in any case.
    const toJson = Object.getOwnPropertyDescriptor(value, "toJSON")
    if (typeof toJson?.value === "function") throw new Refusal("has a toJSON, which JSON would call")
    this.ancestors.push(value)
    if (Array.isArray(value)) this.writeArray(value, depth)
    else this.writeObject(value, depth)
    this.ancestors.pop()
  }

  private writeArray(value: ReadonlyArray<unknown>, depth: number): void {
    const keys = Object.keys(value).length
    if (keys < value.length) throw new Refusal("is a sparse array")
    if (keys > value.length || Object.getOwnPropertySymbols(value).length > 0) {
      throw new Refusal("is an array with extra properties")
    }
    this.out += "["
    for (let i = 0; i < value.length; i++) {
      if (i > 0) this.out += ","
      this.path.push(i)
      this.write(value[i], depth + 1)
      this.path.pop()
    }
    this.out += "]"
  }

  private writeObject(value: object, depth: number): void {
    const prototype = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) {
      const name = prototype.constructor?.name
      throw new Refusal(`is not a plain object${typeof name === "string" && name ? ` (${name})` : ""}`)
    }
    if (Object.getOwnPropertySymbols(value).length > 0) throw new Refusal("has a symbol as key")
    const record = value as Record<string, unknown>
    let first = true
    this.out += "{"
    for (const key of Object.keys(value)) {
      if (key === "__proto__") throw new Refusal("has a key named __proto__")
      this.path.push(key)
      const member = record[key]
      if (member === undefined) {
        this.path.pop()
        continue
      }
      this.out += first ? `${quote(key)}:` : `,${quote(key)}:`
      first = false
      this.write(member, depth + 1)
      this.path.pop()
    }
    this.out += "}"
  }
}
