/**
 * How the variables of all stores are read: what is wrong with them is collected and reported together, each by its
 * name, and what has no effect is found where Config can list what there is.
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { nameOf } from "../internal/config.js"
import { stores } from "./choices.js"

export class Reading {
  /** By the name of a variable and the text. */
  private readonly wrong = new Map<string, Map<string, ConfigError.ConfigError>>()
  private readonly asked = new Set<string>()
  private root: ReadonlyArray<string> | undefined
  private readonly provider: ConfigProvider.ConfigProvider

  constructor(private readonly original: ConfigProvider.ConfigProvider) {
    const { enumerateChildren, load, patch } = original.flattened
    this.provider = ConfigProvider.fromFlat(
      ConfigProvider.makeFlat({
        load: (path, primitive, split) => {
          this.root ??= path.slice(0, -1)
          this.asked.add(path.slice(this.root.length).join("_"))
          return load(path, primitive, split)
        },
        enumerateChildren,
        patch
      })
    )
  }

  /** Something else if it cannot be read; what is wrong with it is kept. */
  readonly one = <A>(config: Config.Config<A>, otherwise: A): Effect.Effect<A> =>
    Effect.catchAll(this.provider.load(config), (error) => {
      for (const [name, leaf] of leavesOf(error)) this.add(name, leaf)
      return Effect.succeed(otherwise)
    })

  /** Unless it could not even be read. */
  refuse(name: string, why: string): void {
    if (!this.wrong.has(name)) this.add(name, ConfigError.InvalidData([name], why))
  }

  private add(name: string, error: ConfigError.ConfigError): void {
    this.wrong.set(name, (this.wrong.get(name) ?? new Map()).set(String(error), error))
  }

  /** Fails with all that is wrong. */
  get done(): Effect.Effect<void, ConfigError.ConfigError> {
    return Effect.suspend(() => {
      const [first, ...others] = [...this.wrong.values()].flatMap((errors) => [...errors.values()])
      return first === undefined
        ? Effect.void
        : Effect.fail(others.reduce((all, error) => ConfigError.And(all, error), first))
    })
  }

  /**
   * The variables with our prefixes that were not asked for and are not empty: misspelt, or of a backend that was not
   * chosen. Not all providers can list what there is.
   */
  get idle(): Effect.Effect<ReadonlyArray<string>> {
    return this.below([]).pipe(
      Effect.map((names) => names.filter((name) => !this.asked.has(name)).sort()),
      // A hint must not stop a start.
      Effect.catchAllDefect(() => none)
    )
  }

  private below(path: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>> {
    const { enumerateChildren, load } = this.original.flattened
    const at = [...(this.root ?? []), ...path]
    return enumerateChildren(at).pipe(
      Effect.orElseSucceed((): Iterable<string> => []),
      Effect.flatMap((children) =>
        Effect.forEach(children, (child) => {
          const name = [...path, child].join("_")
          if (!prefixes.some((prefix) => prefix.startsWith(`${name}_`) || name.startsWith(prefix))) return none
          if (ofKubernetes.test(name)) return none
          const value = load([...at, child], Config.string() as Config.Config.Primitive<string>, false)
          const own = prefixes.some((prefix) => name.startsWith(prefix))
            ? Effect.match(value, {
                onFailure: () => [],
                onSuccess: ([text = ""]) => (text.trim() === "" || addressOfKubernetes.test(text) ? [] : [name])
              })
            : none
          return Effect.zipWith(own, this.below([...path, child]), (own, below) => [...own, ...below])
        })
      ),
      Effect.map((found) => found.flat())
    )
  }
}

const none = Effect.succeed<ReadonlyArray<string>>([])

const prefixes = [...stores.map(nameOf), "PG", "SQLITE", "REDIS", "MINIO", "FS", "ENCRYPTION"].map((name) => `${name}_`)

/** What it sets for a service of that name. */
const ofKubernetes = /_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP|SCTP)/

/** Where such a service is. */
const addressOfKubernetes = /^(tcp|udp|sctp):\/\//

type Leaves = ReadonlyArray<readonly [name: string, error: ConfigError.ConfigError]>

/** The errors of single variables, each named as operators write it. */
const leavesOf = (error: ConfigError.ConfigError): Leaves => {
  const leaf = (path: ReadonlyArray<string>, of: (path: Array<string>) => ConfigError.ConfigError): Leaves => {
    const name = path.join("_")
    return [[name, of([name])]]
  }
  return ConfigError.reduceWithContext(error, undefined, {
    andCase: (_, left: Leaves, right: Leaves) => [...left, ...right],
    orCase: (_, left: Leaves, right: Leaves) => [...left, ...right],
    invalidDataCase: (_, path, message) => leaf(path, (path) => ConfigError.InvalidData(path, message)),
    missingDataCase: (_, path, message) => leaf(path, (path) => ConfigError.MissingData(path, message)),
    sourceUnavailableCase: (_, path, message, cause) =>
      leaf(path, (path) => ConfigError.SourceUnavailable(path, message, cause)),
    unsupportedCase: (_, path, message) => leaf(path, (path) => ConfigError.Unsupported(path, message))
  })
}
