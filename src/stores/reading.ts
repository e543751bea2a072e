/**
 * How the variables of all stores are read: what is wrong with them is collected and reported together, each by its
 * name, and what has no effect is found where Config can list what there is.
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { inLines, leavesOf, nameOf } from "../internal/config.js"
import { stores } from "./choices.js"

export class Reading {
  /** By the name of a variable and the text. */
  private readonly wrong = new Map<string, Map<string, ConfigError.ConfigError>>()
  private readonly asked = new Set<string>()
  private root: ReadonlyArray<string> | undefined
  private readonly provider: ConfigProvider.ConfigProvider

  /** `defaults` stand for variables that are absent or empty. */
  constructor(
    private readonly original: ConfigProvider.ConfigProvider,
    private readonly defaults: Readonly<Record<string, string>> = {}
  ) {
    const { enumerateChildren, load, patch } = original.flattened
    this.provider = ConfigProvider.fromFlat(
      ConfigProvider.makeFlat({
        load: (path, primitive, split) => {
          this.root ??= path.slice(0, -1)
          const name = path.slice(this.root.length).join("_")
          this.asked.add(name)
          const found = load(path, primitive, split)
          const otherwise = Object.hasOwn(this.defaults, name) ? this.defaults[name] : undefined
          if (otherwise === undefined) return found
          const parsed = Effect.map(primitive.parse(otherwise), (value) => [value])
          return Effect.matchEffect(found, {
            onFailure: (error) => (ConfigError.isMissingDataOnly(error) ? parsed : Effect.fail(error)),
            onSuccess: (values) => (values.every(isBlank) ? parsed : Effect.succeed(values))
          })
        },
        enumerateChildren,
        patch
      })
    )
  }

  /** Something else if it cannot be read; what is wrong with it is kept. */
  readonly one = <A>(config: Config.Config<A>, otherwise: A): Effect.Effect<A> =>
    Effect.catchAll(this.provider.load(config), (error) => {
      for (const leaf of leavesOf(error)) this.add(leaf.name, leaf.error)
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
      return first === undefined ? Effect.void : Effect.fail(inLines(first, others))
    })
  }

  /** Defaults that could never stand for a variable. */
  get unknownDefaults(): ReadonlyArray<string> {
    return Object.keys(this.defaults).filter((name) => !this.asked.has(name) && !isOurs(name))
  }

  /**
   * The variables with our prefixes that were not asked for and are not empty: misspelt, or of a backend that was not
   * chosen. Not all providers can list what there is. If the backend of a store is not known, nor is whose the others
   * are.
   */
  get idle(): Effect.Effect<ReadonlyArray<string>> {
    const unknown = stores.map(nameOf).filter((name) => this.wrong.has(name))
    const begins = unknown.length === 0 ? [] : [...unknown, ...backends].map((name) => `${name}_`)
    return this.below([]).pipe(
      Effect.map((names) =>
        names.filter((name) => !this.asked.has(name) && !begins.some((prefix) => name.startsWith(prefix))).sort()
      ),
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
          const own = isOurs(name)
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

/** What the variables of backends begin with. */
const backends = ["PG", "SQLITE", "REDIS", "MINIO", "FS"]

const prefixes = [...stores.map(nameOf), ...backends, "ENCRYPTION"].map((name) => `${name}_`)

const isOurs = (name: string): boolean => prefixes.some((prefix) => name.startsWith(prefix))

const isBlank = (value: unknown): boolean => typeof value === "string" && value.trim() === ""

/** What it sets for a service of that name. */
const ofKubernetes = /_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP|SCTP)/

/** Where such a service is. */
const addressOfKubernetes = /^(tcp|udp|sctp):\/\//
