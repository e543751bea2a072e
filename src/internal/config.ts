/**
 * Variables as operators write them, for Config: the name of an option in upper case, a plain decimal number, a
 * duration with its unit. An empty variable is an absent one. No error shows a value, because a variable that was mixed
 * up may hold a secret.
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { judged, refusalsIn, unjudged } from "./validate.js"

/** Reads one variable, or several that begin with a name; `undefined` when they are absent. */
export interface Reader<A> {
  (name: string): Config.Config<A | undefined>
  /** Of several: what is right of them, where what is wrong by itself throws `Unjudged` when it is looked at. */
  readonly inPart?: (name: string) => Config.Config<A | undefined | Unread>
}

/** What stands for a variable that is wrong. */
export type Unread = typeof unread
export const unread: unique symbol = Symbol("unread")

/** Succeeds with `unread` where the variable is wrong. */
export const attempted = <A>(config: Config.Config<A>): Config.Config<A | Unread> =>
  Config.orElseIf(config, { if: () => true, orElse: () => Config.succeed<Unread>(unread) })

const parsed =
  <A>(parse: (text: string) => A | undefined, must: string | ((text: string) => string)): Reader<A> =>
  (name) =>
    Config.mapOrFail(Config.withDefault(Config.string(name), ""), (text) => {
      const trimmed = text.trim()
      if (trimmed === "") return Either.right(undefined)
      const value = parse(trimmed)
      if (value !== undefined) return Either.right(value)
      return Either.left(ConfigError.InvalidData([name], typeof must === "string" ? must : must(trimmed)))
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

const ofKubernetes =
  "; Kubernetes sets such a variable to a URL for a service of that name, unless enableServiceLinks is false"

export const port: Reader<number> = parsed(
  (text) => (/^\d{1,5}$/.test(text) ? Number(text) : undefined),
  (text) => `must be the number of a port${text.includes("://") ? ofKubernetes : ""}`
)

export const flag: Reader<boolean> = parsed(
  (text) => (text === "true" ? true : text === "false" ? false : undefined),
  "must be true or false"
)

export const oneOf = <const A extends string>(
  values: ReadonlyArray<A>,
  must = `must be one of ${values.join(", ")}`
): Reader<A> => parsed((text) => values.find((value) => value === text), must)

export const list: Reader<ReadonlyArray<string>> = parsed(
  (text) =>
    text
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== ""),
  ""
)

/** Some of these words, or none of them. */
export const listOf = <const A extends string>(values: ReadonlyArray<A>): Reader<ReadonlyArray<A>> =>
  parsed(
    (text) => {
      if (text === "none") return []
      const words = text.split(",").map((word) => word.trim())
      const known = words.map((word) => values.find((value) => value === word))
      return known.every((word) => word !== undefined) ? known : undefined
    },
    `must be none, or one or more of ${values.join(", ")}, with commas between them`
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
  const [, amount, unit = ""] = /^(\d{1,15}) ?([a-z]+)$/.exec(text) ?? []
  const unitMs = unitsMs.get(unit)
  return amount === undefined || unitMs === undefined ? undefined : Duration.millis(Number(amount) * unitMs)
}

const words = {
  "0 for the default": { text: "0", value: Duration.zero },
  infinity: { text: "infinity", value: Duration.infinity }
} as const

/** With what may stand in its place: no error advises what is refused afterwards. */
export const duration = (...instead: ReadonlyArray<keyof typeof words>): Reader<Duration.Duration> =>
  parsed(
    (text) => {
      const word = instead.find((word) => words[word].text === text)
      return word === undefined ? durationOf(text) : words[word].value
    },
    ["must be a whole number and a unit, as in 500ms, 30s, 5 minutes or 1 hour", ...instead].join(", or ")
  )

/** `pool.maxOpenConns` is read from `POOL_MAX_OPEN_CONNS`. */
export const nameOf = (option: string): string =>
  option
    .replace(/[A-Z]/g, (letter) => `_${letter}`)
    .replaceAll(".", "_")
    .toUpperCase()

export type Options<T extends Record<string, Reader<unknown>>> = {
  readonly [K in keyof T]?: T[K] extends Reader<infer A> ? A | undefined : never
}

/** Options, each from the variable of its name; those that are absent are left out. */
export const options = <T extends Record<string, Reader<unknown>>>(readers: T): Config.Config<Options<T>> =>
  found(readers, (read, name) => read(name))

/** The same of what is right of them; what is wrong throws `Unjudged` when it is looked at. */
const optionsInPart = <T extends Record<string, Reader<unknown>>>(readers: T): Config.Config<Options<T>> =>
  found(readers, (read, name) => read.inPart?.(name) ?? attempted(read(name)))

const found = <T extends Record<string, Reader<unknown>>>(
  readers: T,
  read: (reader: Reader<unknown>, name: string) => Config.Config<unknown>
): Config.Config<Options<T>> =>
  Config.map(
    Config.all(
      Object.entries(readers).map(([option, reader]) =>
        Config.map(read(reader, nameOf(option)), (value) => ({ option, value }))
      )
    ),
    (all) => {
      const found = {}
      for (const { option, value } of all) {
        if (value === undefined) continue
        const how = value === unread ? { get: unjudged } : { value, writable: true }
        Object.defineProperty(found, option, { ...how, enumerable: true, configurable: true })
      }
      return found as Options<T>
    }
  )

/** Options behind a name: `undefined` when all are absent. */
export const group = <T extends Record<string, Reader<unknown>>>(readers: T): Reader<Options<T>> => {
  const orNone = (options: Options<T>) => (Object.keys(options).length === 0 ? undefined : options)
  return Object.assign((name: string) => Config.map(Config.nested(options(readers), name), orNone), {
    inPart: (name: string) => Config.map(Config.nested(optionsInPart(readers), name), orNone)
  })
}

/** Options behind a name, all of which may be absent. */
export const nested =
  <A>(config: Config.Config<A>): Reader<A> =>
  (name) =>
    Config.nested(config, name)

/** A switch, beside options of its name. `refusal` is what is wrong between both, `option` what they are together. */
export const switched = <O extends object, A>(
  options: Reader<O>,
  refusal: (on: boolean, options: O, name: string) => ConfigError.ConfigError | undefined,
  option: (on: boolean | undefined, options: O | undefined) => A | undefined
): Reader<A> => {
  const refusalOf = (on: boolean | undefined, options: O | undefined, name: string) =>
    on === undefined || options === undefined ? undefined : judged(() => refusal(on, options, name))
  const inPart = (name: string) =>
    Config.all([attempted(flag(name)), options.inPart?.(name) ?? attempted(options(name))])
  return Object.assign(
    (name: string) =>
      together(
        Config.map(Config.all([flag(name), options(name)]), ([on, options]) => option(on, options)),
        Config.map(inPart(name), ([on, options]) =>
          on === unread || options === unread ? [] : [refusalOf(on, options, name) ?? []].flat()
        )
      ),
    {
      inPart: (name: string) =>
        Config.map(inPart(name), ([on, options]) =>
          on === unread || options === unread || refusalOf(on, options, name) !== undefined
            ? unread
            : option(on, options)
        )
    }
  )
}

/** What is wrong by itself, and what was found wrong between variables, in one error. */
export const together = <A>(
  read: Config.Config<A>,
  wrong: Config.Config<ReadonlyArray<ConfigError.ConfigError>>
): Config.Config<A> =>
  Config.zipWith(
    read,
    Config.mapOrFail(wrong, ([first, ...others]) =>
      first === undefined ? Either.right(undefined) : Either.left(others.reduce(ConfigError.And, first))
    ),
    (value) => value
  )

/**
 * Options, and what their own check refuses, before anything is opened: all that is wrong together, each by the name of
 * its variable. `required` must be given; if none of all is, something else may stand for them, so that they are
 * missing, and not invalid.
 */
export const checkedOptions =
  <T extends Record<string, Reader<unknown>>, const K extends keyof T = never>(
    readers: T,
    ...required: ReadonlyArray<K>
  ) =>
  (check: (options: Options<T> & AndGiven<T, K>) => unknown): Config.Config<Options<T> & AndGiven<T, K>> =>
    together(
      options(readers) as Config.Config<Options<T> & AndGiven<T, K>>,
      Config.map(optionsInPart(readers), (options) => {
        const missing = required.filter((key) => !Object.hasOwn(options, key))
        const absent = Object.values(Object.getOwnPropertyDescriptors(options)).every(isEmpty)
          ? ConfigError.MissingData
          : ConfigError.InvalidData
        for (const key of missing) Object.defineProperty(options, key, { get: unjudged, configurable: true })
        return [
          ...missing.map((key) => absent([nameOf(String(key))], "must be given")),
          ...refusedBy(check, options as Options<T> & AndGiven<T, K>)
        ]
      })
    )

type AndGiven<T extends Record<string, Reader<unknown>>, K extends keyof T> = {
  readonly [P in K]-?: T[P] extends Reader<infer A> ? Exclude<A, undefined> : never
}

const isEmpty = ({ get, value }: PropertyDescriptor): boolean =>
  get === undefined && typeof value === "object" && Object.keys(value).length === 0 && !Redacted.isRedacted(value)

/** What a check refuses of what is right by itself. */
export const checkedBy =
  <O>(check: (options: O) => unknown) =>
  (config: Config.Config<O>): Config.Config<O> =>
    together(
      config,
      Config.map(attempted(config), (options) => (options === unread ? [] : refusedBy(check, options as O)))
    )

const refusedBy = <O>(check: (options: O) => unknown, options: O): ReadonlyArray<ConfigError.ConfigError> => {
  try {
    check(options)
    return []
  } catch (thrown) {
    return refusalsIn(thrown).map(({ what, why }) =>
      // A list is one variable.
      ConfigError.InvalidData([nameOf(what.replace(/\[.*/s, ""))], withNames(what, withoutValue(why)))
    )
  }
}

/** What was given instead is no part of it: text as JSON, a number, or what else it is. */
const withoutValue = (why: string): string =>
  why.replace(/, not (".*"|-?\d[\d.e+]*|an? \w+|true|false|null|undefined)$/s, "")

/** Other options that a reason names, as variables: `beside` writes their whole names. */
const withNames = (what: string, why: string): string => {
  const group = what.slice(0, what.lastIndexOf(".") + 1)
  return why
    .replace(/(?<=^must not exceed )[a-z]\w*(?= \()/, (option) => `\`${nameOf(group + option)}\``)
    .replace(/the (url|listenUrl)\b/, (_, option) => `\`${nameOf(option)}\``)
}

interface Leaf {
  readonly name: string
  readonly message: string
  readonly error: ConfigError.ConfigError
}

/** The errors of single variables, each once, and named as operators write it. */
export const leavesOf = (error: ConfigError.ConfigError): ReadonlyArray<Leaf> => {
  const leaf = (
    path: ReadonlyArray<string>,
    text: string,
    of: (path: Array<string>, message: string) => ConfigError.ConfigError
  ): ReadonlyArray<Leaf> => {
    const name = path.join("_")
    const message = beside(path, text)
    return [{ name, message, error: of([name], message) }]
  }
  const all = ConfigError.reduceWithContext(error, undefined, {
    andCase: (_, left: ReadonlyArray<Leaf>, right: ReadonlyArray<Leaf>) => [...left, ...right],
    orCase: (_, left: ReadonlyArray<Leaf>, right: ReadonlyArray<Leaf>) => [...left, ...right],
    invalidDataCase: (_, path, message) => leaf(path, message, ConfigError.InvalidData),
    missingDataCase: (_, path, message) => leaf(path, message, ConfigError.MissingData),
    sourceUnavailableCase: (_, path, message, cause) =>
      leaf(path, message, (path, message) => ConfigError.SourceUnavailable(path, message, cause)),
    unsupportedCase: (_, path, message) => leaf(path, message, ConfigError.Unsupported)
  })
  // What says less than another, or the same again.
  return all.filter(
    ({ message, name }, i) =>
      !all.some(
        (other, j) =>
          other.name === name && (other.message === message ? j < i : other.message.startsWith(`${message}: `))
      )
  )
}

/** All of them, a line each. */
export const inLines = (
  first: ConfigError.ConfigError,
  others: ReadonlyArray<ConfigError.ConfigError>
): ConfigError.ConfigError => {
  if (others.length === 0) return first
  const all = others.reduce(ConfigError.And, first)
  // Effect's own text, which is one line, cannot be replaced in place.
  return Object.create(Object.getPrototypeOf(all), {
    ...Object.getOwnPropertyDescriptors(all),
    toString: { value: () => [first, ...others].join("\n  and ") }
  })
}

/** A variable in backquotes stands beside the one of that path. */
const beside = (path: ReadonlyArray<string>, message: string): string =>
  message.replace(/`([A-Z][A-Z_]*\*?)`/g, (_, name) => [...path.slice(0, -1), name].join("_"))

/** Reads options, with all that is wrong named as operators write it. */
export const read = <A>(config: Config.Config.Wrap<A>): Effect.Effect<A, ConfigError.ConfigError> =>
  Effect.mapError(Config.unwrap(config), (error) => {
    const [first = error, ...others] = leavesOf(error).map(({ error }) => error)
    return inLines(first, others)
  })
