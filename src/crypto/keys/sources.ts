/**
 * Where the keys of a ring come from: options, Config, or a file. No error shows what it has read, because it may be a
 * key.
 */
import * as fs from "node:fs"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { InvalidInput } from "../../Errors.js"
import type { Reader } from "../../internal/config.js"
import type { KeyStatus } from "./key.js"
import type { KeyOptions, RingOptions } from "./ring.js"

const statuses: ReadonlyArray<string> = ["enabled", "decryptOnly", "disabled"]

/** `id=key` or `id=key:status`. The text behind `=` is never shown. */
const entryOf = (text: string): Either.Either<KeyOptions, string> => {
  const equals = text.indexOf("=")
  const id = text.slice(0, Math.max(0, equals))
  if (!/^[A-Za-z0-9._-]{1,8}$/.test(id))
    return Either.left("must be id=key, the id 1 to 8 of A-Z a-z 0-9 . _ - (its text is not shown)")
  const rest = text.slice(equals + 1)
  const colon = rest.indexOf(":")
  const status = colon === -1 ? "enabled" : rest.slice(colon + 1)
  if (!statuses.includes(status))
    return Either.left(`${id}: what stands behind the colon must be one of ${statuses.join(", ")}`)
  const key = colon === -1 ? rest : rest.slice(0, colon)
  if (key === "") return Either.left(`${id} has no key`)
  return Either.right({ id, key: Redacted.make(key), status: status as KeyStatus })
}

/** A list of `id=key` or `id=key:status`, separated by commas or white space. All entries that are wrong are named. */
export const keyList: Reader<ReadonlyArray<KeyOptions>> = (name) =>
  Config.mapOrFail(Config.withDefault(Config.redacted(name), Redacted.make("")), (redacted) => {
    const texts = Redacted.value(redacted)
      .split(/[\s,]+/)
      .filter((text) => text !== "")
    const entries = texts.map(entryOf)
    const [first, ...others] = entries.flatMap((entry, i) =>
      Either.isLeft(entry) ? [ConfigError.InvalidData([name], `entry ${i + 1} ${entry.left}`)] : []
    )
    if (first !== undefined) return Either.left(others.reduce<ConfigError.ConfigError>(ConfigError.And, first))
    return Either.right(texts.length === 0 ? undefined : entries.flatMap((entry) => Either.getOrElse(entry, () => [])))
  })

const fileBytesMax = 1024 * 1024

const unfit = (path: string, why: string): InvalidInput => new InvalidInput({ what: `the key file ${path}`, why })

/**
 * A ring from a JSON file `{ "primary": "b", "keys": [{ "id": "b", "key": "…", "status": "enabled" }] }`. The
 * permissions are those of the file that was opened, so nobody can put another in its place in between.
 */
export const ringFile = (path: string): Effect.Effect<RingOptions, InvalidInput> =>
  Effect.suspend(() => {
    let text: string
    try {
      const descriptor = fs.openSync(path, "r")
      try {
        const stat = fs.fstatSync(descriptor)
        if (!stat.isFile()) return Effect.fail(unfit(path, "is no file"))
        if ((stat.mode & 0o077) !== 0) {
          const mode = (stat.mode & 0o777).toString(8)
          return Effect.fail(unfit(path, `may be read or written by others than its owner (mode ${mode}): chmod 600`))
        }
        if (stat.size > fileBytesMax) return Effect.fail(unfit(path, `is larger than ${fileBytesMax} bytes`))
        text = fs.readFileSync(descriptor, "utf8")
      } finally {
        fs.closeSync(descriptor)
      }
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error"
      return Effect.fail(unfit(path, `could not be read: ${code}`))
    }
    return parsed(path, text)
  })

const parsed = (path: string, text: string): Effect.Effect<RingOptions, InvalidInput> => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // The parser's own message quotes the text.
    return Effect.fail(unfit(path, "is no JSON"))
  }
  if (typeof value !== "object" || value === null || !("keys" in value) || !Array.isArray(value.keys))
    return Effect.fail(unfit(path, "must be an object with primary and keys"))
  const { keys, ...rest } = value
  const redacted = keys.map((entry: unknown) =>
    typeof entry === "object" && entry !== null && "key" in entry && typeof entry.key === "string"
      ? { ...entry, key: Redacted.make(entry.key) }
      : {}
  )
  // Checked as options are: ids, statuses, lengths.
  return Effect.succeed({ ...rest, keys: redacted } as unknown as RingOptions)
}
