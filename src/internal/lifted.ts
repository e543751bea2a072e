/**
 * What a lifted service is made of, so that it can be lifted again over a wrapped port with the same options; which
 * ports are sealed; and what a store that is opened without keys may write.
 */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import { globalValue } from "effect/GlobalValue"
import type * as Runtime from "effect/Runtime"
import { InvalidInput, StoreError, type StoreFailure } from "../Errors.js"

interface SharedOptions {
  readonly readOnly?: boolean | undefined
  readonly inTransaction?: ((runtime: Runtime.Runtime<never>) => boolean) | undefined
}

interface Parts<Encoded, Options> {
  readonly encoded: Encoded
  readonly options: Options
}

/** A port as it is written to without keys, and what looks whether it may be: see `withoutKeys`. */
export interface Guarded<Encoded> {
  readonly encoded: Encoded
  readonly look: Effect.Effect<boolean, StoreFailure>
}

const allParts = new WeakMap<object, Parts<object, SharedOptions>>()
const looks = new WeakMap<object, Guarded<object>["look"]>()

/** What a service of any store was lifted from; undefined for one that was made by hand. */
export const partsOf = (service: object) => allParts.get(service)

/**
 * The services of one store that its lift has made. Their parts are kept beside them, not in them: a copy of a service
 * with replaced members has none, and is refused, since lifting it again would undo the replacement.
 */
export class Lifted<Service extends object, Encoded extends object, Options extends SharedOptions> {
  private readonly parts = new WeakMap<Service, Parts<Encoded, Options>>()

  constructor(private readonly store: string) {}

  add(service: Service, encoded: Encoded, options: Options, look: Guarded<Encoded>["look"]): Service {
    this.parts.set(service, { encoded, options })
    allParts.set(service, { encoded, options })
    looks.set(service, look)
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
      : Effect.map(wrap(readable(membersOf(parts.encoded), parts.options)), (encoded) => ({
          encoded,
          options: parts.options
        }))
  }
}

/** Whoever only reads keeps no notes: what would be kept is taken as if it were. */
const readable = <Port extends object>(port: Port, { readOnly }: SharedOptions): Port => {
  const { note } = port as { readonly note?: Note | null }
  if (readOnly !== true || typeof note !== "function") return port
  const look: Note = (name, value) => Effect.map(note(name, null), (kept) => kept ?? value)
  return { ...port, note: look }
}

/** A port of which a copy has all members: where it is an instance of a class, a copy would lack the methods. */
const membersOf = <Port extends object>(port: Port): Port => {
  const members = { ...port }
  for (let at = Object.getPrototypeOf(port); at !== null; at = Object.getPrototypeOf(at)) {
    for (const name of Reflect.ownKeys(at)) {
      const member: unknown = name in members ? undefined : Reflect.get(port, name)
      if (member !== undefined) Reflect.set(members, name, typeof member === "function" ? member.bind(port) : member)
    }
  }
  return members
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

export const upkeepIn = (port: object): unknown => (port as { readonly [sealed]?: unknown })[sealed]

/** What a port keeps for layers that seal: see `note` of the ports. */
export type Note = (name: string, value: string | null) => Effect.Effect<string | null, StoreFailure>

/**
 * Whether all that is written must be sealed, and how often that has changed: a kept value stays, so each time has
 * notes of its own.
 */
const requirement = (
  note: Note,
  time = 1
): Effect.Effect<{ readonly holds: boolean; readonly time: number }, StoreFailure> =>
  Effect.flatMap(note(`required ${time}`, null), (required) =>
    required === null
      ? Effect.succeed({ holds: false, time })
      : Effect.flatMap(note(`released ${time}`, null), (released) =>
          released === null ? Effect.succeed({ holds: true, time }) : requirement(note, time + 1)
        )
  )

/** From now on nothing may be written that is not sealed (`RequireEncrypt`), or it may again. */
export const requireSealed = (note: Note, only: boolean): Effect.Effect<void, StoreFailure> =>
  Effect.flatMap(requirement(note), ({ holds, time }) =>
    holds === only ? Effect.void : Effect.asVoid(note(`${only ? "required" : "released"} ${time}`, "yes"))
  )

/** Set while a layer is built that is then sealed: who looks for keys at the start finds them there. */
export const beingSealed: FiberRef.FiberRef<boolean> = globalValue("effect-stores/beingSealed", () =>
  FiberRef.unsafeMake(false)
)

/**
 * Whether a service was opened without keys that refuses to write plain. Not asked of one that writes nothing, or is
 * sealed next. Layers that ask the backend while they are built ask this, too.
 */
export const lacksKeys = (service: object): Effect.Effect<boolean, StoreFailure> =>
  Effect.flatMap(FiberRef.get(beingSealed), (isSealedNext) =>
    isSealedNext || partsOf(service)?.options.readOnly === true
      ? Effect.succeed(false)
      : (looks.get(service) ?? Effect.succeed(false))
  )

/**
 * The port of a store that was opened without keys. Where all must be sealed it refuses these members, which write
 * payloads: whoever reads with keys would stop at what they wrote. A write looks, until it was seen that all may write.
 *
 * Layers on SQL databases look when they open: writes that are made at once before anybody has looked would each ask,
 * and go on in the order of their answers.
 */
export const withoutKeys = <Port extends { readonly note: Note | null }, Member extends keyof Port & string>(
  store: string,
  port: Port,
  writes: ReadonlyArray<Member>
): Guarded<Port> => {
  if (isSealed(port) || port.note === null) return { encoded: port, look: Effect.succeed(false) }
  const members = membersOf(port)
  let mayWrite = false
  const unasked = Object.fromEntries(writes.map((name) => [name, members[name] as Write]))
  const asked = Object.fromEntries(
    Object.entries(unasked).map(([operation, write]): readonly [string, Write] => [
      operation,
      (...args) =>
        mayWrite
          ? write(...args)
          : Effect.flatMap(look, (refuses) =>
              refuses
                ? Effect.fail(new StoreError({ operation, cause: new Error(`${store} ${sealedOnly}`) }))
                : write(...args)
            )
    ])
  )
  const encoded = { ...members, ...asked }
  // Where all may write, writes no longer come by here.
  const look = Effect.map(requirement(members.note as Note), ({ holds }) => {
    mayWrite = !holds
    Object.assign(encoded, mayWrite ? unasked : asked)
    return holds
  })
  return { encoded, look }
}

type Write = (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>

const sealedOnly =
  "takes only what is sealed, and was opened without keys: " +
  "give it the keys, with ForbidEncryptAllowDecrypt to write plain"
