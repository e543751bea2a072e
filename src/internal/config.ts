/**
 * Variables as operators write them, for Config: the name of an option in upper case, a plain decimal number, a
 * duration with its unit. An empty variable is an absent one. No error shows a value, because a variable that was mixed
 * up may hold a secret.
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import type { InvalidInput } from "../Errors.js"
import { invalid } from "./validate.js"

/** Reads one variable by its name; `undefined` when it is absent. */
export type Reader<A> = (name: string) => Config.Config<A | undefined>

const parsed =
  <A>(parse: (text: string) => A | undefined, must: string): Reader<A> =>
  (name) =>
    Config.mapOrFail(Config.withDefault(Config.string(name), ""), (text) => {
      const trimmed = text.trim()
      if (trimmed === "") return Either.right(undefined)
      const value = parse(trimmed)
      return value === undefined ? Either.left(ConfigError.InvalidData([name], must)) : Either.right(value)
    })

/** Quotes that a file of variables has, and no shell has taken away, would become a part of the value. */
export const text: Reader<string> = parsed(
  (text) => (/^(["']).*\1$/s.test(text) ? undefined : text),
  "must not be in quotes: they would belong to it"
)

/** Not trimmed: a space may belong to it. A line that ends is that of a file which it was read from. */
export const secret: Reader<Redacted.Redacted> = (name) =>
  Config.mapOrFail(Config.withDefault(Config.redacted(name), undefined), (value) => {
    if (value === undefined || Redacted.value(value) === "") return Either.right(undefined)
    return /[\r\n]$/.test(Redacted.value(value))
      ? Either.left(
          ConfigError.InvalidData([name], "must not end with the end of a line: write it without (printf, echo -n)")
        )
      : Either.right(value)
  })

export const integer: Reader<number> = parsed((text) => {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : undefined
  return value !== undefined && Number.isSafeInteger(value) ? value : undefined
}, "must be a whole number of decimal digits, without a sign, a point or an exponent")

export const port: Reader<number> = parsed(
  (text) => (/^\d{1,5}$/.test(text) ? Number(text) : undefined),
  "must be the number of a port; Kubernetes sets such a variable to a URL for a service of that name, unless " +
    "enableServiceLinks is false"
)

export const flag: Reader<boolean> = parsed(
  (text) => (text === "true" ? true : text === "false" ? false : undefined),
  "must be true or false"
)

export const oneOf = <const A extends string>(values: ReadonlyArray<A>): Reader<A> =>
  parsed((text) => values.find((value) => value === text), `must be one of ${values.join(", ")}`)

export const list: Reader<ReadonlyArray<string>> = parsed(
  (text) =>
    text
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== ""),
  ""
)

const unitsMs = new Map([
  ...["ms", "milli", "millis", "millisecond", "milliseconds"].map((unit) => [unit, 1] as const),
  ...["s", "second", "seconds"].map((unit) => [unit, 1_000] as const),
  ...["m", "minute", "minutes"].map((unit) => [unit, 60_000] as const),
  ...["h", "hour", "hours"].map((unit) => [unit, 3_600_000] as const),
  ...["d", "day", "days"].map((unit) => [unit, 86_400_000] as const),
  ...["week", "weeks"].map((unit) => [unit, 604_800_000] as const)
])

const durationOf = (text: string): Duration.Duration | undefined => {
  if (text === "infinity") return Duration.infinity
  if (text === "0") return Duration.zero
  const [, amount, unit = ""] = /^(\d{1,15}) ?([a-z]+)$/.exec(text) ?? []
  const unitMs = unitsMs.get(unit)
  return amount === undefined || unitMs === undefined ? undefined : Duration.millis(Number(amount) * unitMs)
}

export const duration: Reader<Duration.Duration> = parsed(
  durationOf,
  "must be a whole number and a unit, as in 500ms, 30s, 5 minutes or 1 hour, or 0, or infinity"
)

/** `pool.maxOpenConns` is read from `POOL_MAX_OPEN_CONNS`. */
export const nameOf = (option: string): string =>
  option
    .replace(/[A-Z]/g, (letter) => `_${letter}`)
    .replaceAll(".", "_")
    .toUpperCase()

type Options<T extends Record<string, Reader<unknown>>> = {
  readonly [K in keyof T]?: T[K] extends Reader<infer A> ? A | undefined : never
}

/** Options, each from the variable of its name; those that are absent are left out. */
export const options = <T extends Record<string, Reader<unknown>>>(readers: T): Config.Config<Options<T>> =>
  Config.map(
    Config.all(
      Object.entries(readers).map(([option, read]) => Config.map(read(nameOf(option)), (value) => ({ option, value })))
    ),
    (found) =>
      Object.fromEntries(
        found.flatMap(({ option, value }) => (value === undefined ? [] : [[option, value]]))
      ) as Options<T>
  )

/**
 * Fails, naming the variable, when an option that must be given is absent. That is no missing group, which something
 * else may stand for, when others of it are given.
 */
export const required =
  <K extends string>(...keys: ReadonlyArray<K>) =>
  <O extends { readonly [P in K]?: unknown }>(
    config: Config.Config<O>
  ): Config.Config<O & { readonly [P in K]-?: Exclude<O[P], undefined> }> =>
    Config.mapOrFail(config, (options) => {
      const missing = keys.filter((key) => options[key] === undefined)
      const absent = Object.keys(options).length === 0 ? ConfigError.MissingData : ConfigError.InvalidData
      const errors = missing.map((key) => absent([nameOf(key)], "must be given"))
      return errors.length === 0
        ? Either.right(options as O & { readonly [P in K]-?: Exclude<O[P], undefined> })
        : Either.left(errors.reduce((all, error) => ConfigError.And(all, error)))
    })

/**
 * Refuses what the options' own check does, which throws `InvalidInput`, before anything is opened. What follows of the
 * first that is wrong is unknown, so the others are checked without it, until all are found.
 */
export const checkedBy =
  <O extends object>(check: (options: O) => unknown) =>
  (config: Config.Config<O>): Config.Config<O> =>
    Config.mapOrFail(config, (options) => {
      const wrong = wrongOnes(options, check)
      const [first, ...others] = wrong.map(({ what, why }) =>
        // A list is one variable.
        ConfigError.InvalidData([nameOf(what.replace(/\[.*/s, ""))], withoutValue(why).replace("the url", "URL"))
      )
      return first === undefined
        ? Either.right(options)
        : Either.left(others.reduce<ConfigError.ConfigError>((all, error) => ConfigError.And(all, error), first))
    })

/** What was given instead is no part of it: text as JSON, a number, or what else it is. */
export const withoutValue = (why: string): string =>
  why.replace(/, not (".*"|-?\d[\d.e+]*|an? \w+|true|false|null|undefined)$/s, "")

const wrongOnes = <O extends object>(
  options: O,
  check: (options: O) => unknown,
  found: ReadonlyArray<InvalidInput> = []
): ReadonlyArray<InvalidInput> => {
  try {
    check(options)
    return found
  } catch (thrown) {
    const error = invalid(thrown)
    const [option = ""] = error.what.split(".", 1)
    if (!Object.hasOwn(options, option)) return found.length === 0 ? [error] : found
    const { [option as keyof O]: _, ...others } = options
    return wrongOnes(others as O, check, [...found, error])
  }
}
