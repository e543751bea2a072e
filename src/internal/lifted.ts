/**
 * What a lifted service is made of, so that it can be lifted again over a wrapped port with the same options.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { InvalidInput } from "../Errors.js"

interface SharedOptions {
  readonly readOnly?: boolean | undefined
  readonly inTransaction?: ((context: Context.Context<never>) => boolean) | undefined
}

interface Parts<Encoded, Options> {
  readonly encoded: Encoded
  readonly options: Options
}

const allParts = new WeakMap<object, Parts<object, SharedOptions>>()

/** What a service of any store was lifted from; undefined for one that was made by hand. */
export const partsOf = (service: object) => allParts.get(service)

/**
 * The services of one store that its lift has made. Their parts are kept beside them, not in them: a copy of a service
 * with replaced members has none, and is refused, since lifting it again would undo the replacement.
 */
export class Lifted<Service extends object, Encoded extends object, Options extends SharedOptions> {
  private readonly parts = new WeakMap<Service, Parts<Encoded, Options>>()

  constructor(private readonly store: string) {}

  add(service: Service, encoded: Encoded, options: Options): Service {
    this.parts.set(service, { encoded, options })
    allParts.set(service, { encoded, options })
    return service
  }

  /** The wrapped port of a service, and the options that it was lifted with. */
  rewrap<E, R>(
    service: Service,
    wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
  ): Effect.Effect<Parts<Encoded, Options>, E | InvalidInput, R> {
    const parts = this.parts.get(service)
    return parts === undefined
      ? Effect.fail(
          new InvalidInput({
            what: this.store,
            why: `was not made by ${this.store}Encoded.make, so it has no port that could be wrapped`
          })
        )
      : Effect.map(wrap(parts.encoded), (encoded) => ({ encoded, options: parts.options }))
  }
}

/**
 * Marks the ports that seal what goes through them. None is sealed again, because what was sealed in between would be
 * opened by nobody; so whatever is built over a sealed port is one itself. A copy with other members has the mark too.
 */
const sealed: unique symbol = Symbol.for("effect-stores/sealed")

export const isSealed = (port: object): boolean => sealed in port

/** `upkeep` is for those who work on all that is stored. */
export const addSealed = <Port extends object>(port: Port, upkeep: unknown): Port =>
  Object.assign(port, { [sealed]: upkeep })

export const upkeepIn = (port: object): unknown => (sealed in port ? port[sealed] : undefined)
