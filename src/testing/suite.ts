/**
 * What all contract suites share: the form in which a topic registers its tests, properties over random input, and
 * small readers of outcomes. No test and no generator of one store lives here.
 */
import assert from "node:assert/strict"
import { layer as vitestLayer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import type * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { describe } from "vitest"
import type { InvalidInput } from "../Errors.js"

/**
 * Registers one test. Its time runs on the real clock: drivers and servers do not know a test clock, and their
 * timeouts would never fire under one.
 */
export type Test<S> = (title: string, body: () => Effect.Effect<void, unknown, S | Scope.Scope>) => void

/** Builds the layer once for all tests that `register` adds, and runs them one after the other. */
export const suite = <S, E>(
  name: string,
  layer: Layer.Layer<S, E>,
  timeoutMs: number,
  register: (test: Test<S>) => void
): void => {
  describe.sequential(name, () => {
    vitestLayer(layer, { excludeTestServices: true, timeout: timeoutMs })((it) => {
      register((title, body) => it.scoped(title, body, timeoutMs))
    })
  })
}

/** The port that a service was lifted from, for what no member of the service shows. */
export const portOf = <Port>(
  relift: (keep: (port: Port) => Effect.Effect<Port>) => Effect.Effect<unknown, InvalidInput, Scope.Scope>
): Effect.Effect<Port, InvalidInput, Scope.Scope> =>
  Effect.suspend(() => {
    const ports: Array<Port> = []
    const keep = (port: Port) =>
      Effect.sync(() => {
        ports.push(port)
        return port
      })
    return Effect.map(relift(keep), () => {
      const [port] = ports
      assert.ok(port !== undefined)
      return port
    })
  })

/** What a contract is told of a backend beside its layer. */
export interface ContractOptions<S> {
  /** A read-only view of the same data; without one, read-only is not tested. */
  readonly readOnly?: Layer.Layer<S, unknown> | undefined
  /** What `info` must not show, such as the password of the connection. */
  readonly secrets?: ReadonlyArray<string> | undefined
  /** Longest time of one test, in milliseconds: a bound for what hangs, and no measure of speed. Default 900,000. */
  readonly timeoutMs?: number | undefined
}

/**
 * A failed property reports `seed` and `path`; given here, it runs just the failing case again.
 *
 * @since 0.1.0
 * @category suites
 */
export interface ReplayOptions {
  readonly seed?: number | undefined
  readonly path?: string | undefined
  /** Of the whole property. Default 1,200,000 ms. */
  readonly timeoutMs?: number | undefined
}

/**
 * How much a suite of bad input tries.
 *
 * @since 0.1.0
 * @category suites
 */
export interface BadInputOptions extends ReplayOptions {
  /** Random cases over all operations together. Default 10,000. */
  readonly cases?: number | undefined
}

/**
 * How much a suite that compares a store with its model tries.
 *
 * @since 0.1.0
 * @category suites
 */
export interface ModelOptions extends ReplayOptions {
  /** Random histories. Default 300. */
  readonly runs?: number | undefined
}

/** Registers a suite that is one property. */
const propertySuite = <S, E>(
  name: string,
  layer: Layer.Layer<S, E>,
  options: ReplayOptions & { readonly runs: number },
  register: (test: Test<S>, options: PropertyOptions) => void
): void => suite(name, layer, options.timeoutMs ?? 1_200_000, (test) => register(test, options))

export const badInputSuite = <S, E>(
  name: string,
  layer: Layer.Layer<S, E>,
  options: BadInputOptions,
  register: (test: Test<S>, options: PropertyOptions) => void
): void => propertySuite(`${name}: bad input`, layer, { ...options, runs: options.cases ?? 10_000 }, register)

export const modelSuite = <S, E>(
  name: string,
  layer: Layer.Layer<S, E>,
  options: ModelOptions,
  register: (test: Test<S>, options: PropertyOptions) => void
): void => propertySuite(`${name}: model`, layer, { ...options, runs: options.runs ?? 300 }, register)

/** How often a property runs, and where a failed one is to be taken up: its report names `seed` and `path`. */
export interface PropertyOptions {
  readonly runs: number
  readonly seed?: number | undefined
  readonly path?: string | undefined
}

/** Holds a property against random values. What fails is shrunk; the report carries the smallest value and its seed. */
export const property = <A, E, R>(
  arbitrary: FastCheck.Arbitrary<A>,
  { path, runs, seed }: PropertyOptions,
  body: (value: A) => Effect.Effect<void, E, R>
): Effect.Effect<void, Error, R> =>
  Effect.flatMap(Effect.runtime<R>(), (runtime) => {
    const run = Runtime.runPromiseExit(runtime)
    return Effect.tryPromise({
      try: (signal) =>
        FastCheck.assert(
          FastCheck.asyncProperty(arbitrary, async (value) => {
            const exit = await run(body(value), { signal })
            if (Exit.isFailure(exit)) throw Cause.squash(exit.cause)
          }),
          {
            numRuns: runs,
            ...(seed === undefined ? {} : { seed }),
            ...(path === undefined ? {} : { path })
          }
        ),
      catch: (error) => (error instanceof Error ? error : new Error(String(error)))
    })
  })

/**
 * Whether at least a share of the random cases was of a kind, without which the generator would be useless. Nothing is
 * said about far fewer cases than `usual`: by chance all of them may be of another kind.
 */
export const isEnough = (found: number, { of, share, usual }: { of: number; share: number; usual: number }): boolean =>
  of < usual / 2 || found > of * share

export const collect = <A, E, R>(stream: Stream.Stream<A, E, R>): Effect.Effect<Array<A>, E, R> =>
  Effect.map(Stream.runCollect(stream), Chunk.toArray)

/** The error of an effect that must fail with this tag. */
export const failsWith = <A, E extends { readonly _tag: string }, R, const Tag extends E["_tag"]>(
  effect: Effect.Effect<A, E, R>,
  tag: Tag
): Effect.Effect<Extract<E, { readonly _tag: Tag }>, never, R> =>
  Effect.map(Effect.exit(effect), (exit) => {
    const error = Exit.isFailure(exit) ? Cause.failureOption(exit.cause) : undefined
    assert.ok(error?._tag === "Some", `must fail with ${tag}, but was ${exit}`)
    assert.equal(error.value._tag, tag, String(error.value))
    return error.value as Extract<E, { readonly _tag: Tag }>
  })

/** The order of UTF-8 bytes, by another way than the backends have. */
export const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))

export const range = (from: number, to: number): Array<number> =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i)

export const isIncreasing = (values: ReadonlyArray<number>): boolean =>
  values.every((value, i) => i === 0 || value > (values[i - 1] as number))
