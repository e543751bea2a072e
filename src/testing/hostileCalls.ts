/**
 * The property of bad input, for any store: its operations are called with arguments that are right but for some
 * places, which hold hostile values. A failure must be typed and change nothing; after a success, what is read must be
 * what was given. What the operations are, and what they must answer, is each store's own.
 */
import assert from "node:assert/strict"
import { isDeepStrictEqual } from "node:util"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import type { StreamId } from "../EventStore.js"
import type { Hostile } from "./hostile.js"
import * as hostile from "./hostile.js"
import type { PropertyOptions } from "./suite.js"
import { isEnough, property } from "./suite.js"

/** Gives the value for a place of the arguments: the right one, unless the case put another there. */
export type At = <A>(place: string, right: A) => A

export interface Operation<World> {
  readonly places: ReadonlyArray<string>
  readonly prepare: (at: At, world: World) => Prepared
}

interface Prepared {
  readonly run: () => Effect.Effect<unknown, { readonly _tag: string }>
  /** Runs after a success, with its answer. */
  readonly check: (answer: unknown) => Effect.Effect<void, unknown>
}

/** `blank` is a world to find the places of arguments in; nothing is run on it. */
export const operationsOf =
  <World extends { readonly store: unknown }>(blank: World) =>
  <Args, A, E extends { readonly _tag: string }>(define: {
    readonly args: (at: At, world: World) => Args
    readonly run: (store: World["store"], args: Args) => Effect.Effect<A, E>
    readonly check: (world: World, args: Args, answer: A) => Effect.Effect<void, unknown>
  }): Operation<World> => {
    const places: Array<string> = []
    define.args((place, right) => {
      places.push(place)
      return right
    }, blank)
    return {
      places,
      prepare: (at, world) => {
        const args = define.args(at, world)
        return {
          run: () => define.run(world.store, args),
          check: (answer) => define.check(world, args, answer as A)
        }
      }
    }
  }

export const streamArg = (at: At, name: string, right: StreamId): StreamId =>
  at(name, {
    tenantId: at(`${name}.tenantId`, right.tenantId),
    domain: at(`${name}.domain`, right.domain),
    aggregateId: at(`${name}.aggregateId`, right.aggregateId)
  })

/** The value as JSON has it, made without JSON: anything but containers stays as it is, and then differs. */
export const copy = (value: unknown): unknown => {
  if (typeof value !== "object" || value === null) return value
  if (Array.isArray(value)) return Array.from({ length: value.length }, (_, i) => copy(value[i]))
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return value
  const members = Object.keys(value).map((key) => [key, copy((value as Record<string, unknown>)[key])] as const)
  return Object.fromEntries(members.filter(([, member]) => member !== undefined))
}

/** A value whose getters change cannot be compared with itself. */
export const isSteady = (...values: ReadonlyArray<unknown>): boolean => isDeepStrictEqual(copy(values), copy(values))

export const same = (actual: unknown, expected: unknown, what: string): void =>
  assert.ok(isDeepStrictEqual(actual, expected), `${what} is not what was put in`)

interface Case {
  readonly operation: string
  readonly hits: ReadonlyArray<readonly [place: string, value: Hostile]>
}

const casesOf = <World>(
  operations: Readonly<Record<string, Operation<World>>>,
  weightOf: (operation: string) => number
): FastCheck.Arbitrary<Case> =>
  FastCheck.oneof(
    ...Object.entries(operations).map(([name, { places }]) => ({
      weight: weightOf(name),
      arbitrary: FastCheck.record({
        operation: FastCheck.constant(name),
        hits: FastCheck.array(FastCheck.tuple(FastCheck.constantFrom(...places), hostile.any), {
          minLength: 1,
          maxLength: 3
        })
      })
    }))
  )

const printable = (value: unknown): string => {
  try {
    return String(value)
  } catch {
    return "something that cannot be printed"
  }
}

/** What a refusal says was wrong; undefined after a success, and empty for every other failure. */
const whatOf = (exit: Exit.Exit<unknown, { readonly _tag: string; readonly what?: unknown }>): unknown => {
  if (Exit.isSuccess(exit)) return undefined
  const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
  return failure?._tag === "InvalidInput" ? failure.what : ""
}

export const hostileCalls = <World, E>(
  options: PropertyOptions,
  define: {
    readonly operations: Readonly<Record<string, Operation<World>>>
    readonly weightOf: (operation: string) => number
    readonly world: World
    /** What no call that fails may change. */
    readonly state: Effect.Effect<unknown, E>
    /** Tags of the errors that a call may fail with. */
    readonly documented: ReadonlyArray<string>
  }
): Effect.Effect<void, E | Error> =>
  Effect.gen(function* () {
    const { documented, operations, state, weightOf, world } = define
    let before = yield* state
    let refusals = 0
    let successes = 0

    // What no field takes is refused by each alone, and the error names the field, or what has a key too many. An
    // operation that refuses nothing tells its caller of no failure.
    for (const [operation, { places, prepare }] of Object.entries(operations)) {
      const named = yield* Effect.forEach(places, (place) => {
        const { check, run } = prepare((at, right) => (at === place ? (Symbol("hostile") as never) : right), world)
        return Effect.flatMap(Effect.exit(Effect.suspend(run)), (exit) =>
          Effect.as(Exit.isSuccess(exit) ? Effect.orDie(check(exit.value)) : Effect.void, [
            place,
            whatOf(exit)
          ] as const)
        )
      })
      const wrong = named.filter(([place, what]) => {
        const around = place.slice(0, place.lastIndexOf("."))
        return what !== place && what !== around && what !== `a key of ${around}`
      })
      if (named.some(([, what]) => what !== undefined)) assert.deepEqual(wrong, [], operation)
    }

    yield* property(casesOf(operations, weightOf), options, ({ hits, operation }) =>
      Effect.gen(function* () {
        const values = new Map(hits)
        const at: At = <A>(place: string, right: A) => {
          const value = values.get(place)
          return value === undefined ? right : (value.make() as A)
        }
        const { check, run } = (operations[operation] as Operation<World>).prepare(at, world)
        const exit = yield* Effect.exit(Effect.suspend(run))
        const previous = before
        before = yield* state
        if (Exit.isSuccess(exit)) {
          successes++
          yield* check(exit.value)
        } else {
          refusals++
          const failure = Cause.failureOption(exit.cause)
          assert.ok(Option.isSome(failure), `${operation} died or threw: ${printable(exit.cause)}`)
          const error: { readonly _tag: string; readonly what?: unknown; readonly why?: unknown } = failure.value
          assert.ok(documented.includes(error._tag), `${operation} failed with ${printable(error)}`)
          if (error._tag === "InvalidInput") {
            assert.ok(typeof error.what === "string" && error.what !== "", "what is empty")
            assert.ok(typeof error.why === "string" && error.why !== "", "why is empty")
          }
          assert.deepEqual(before, previous, `${operation} failed with ${error._tag}, but changed the store`)
        }
      })
    )

    // The generator would be useless if it only ever made one kind of outcome.
    const cases = { of: options.runs, usual: 10_000 }
    assert.ok(isEnough(refusals, { ...cases, share: 1 / 10 }), `${refusals} of ${options.runs} refused`)
    assert.ok(isEnough(successes, { ...cases, share: 1 / 20 }), `${successes} of ${options.runs} accepted`)
  })
