/**
 * The property that removal wins: random interleavings of loads that are held, removals and reads, through two
 * instances of the store on the same data. The source of what is loaded changes before every removal, so of each value
 * that a caller gets it can be told whether it is older than the last removal that had returned before the caller
 * asked.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { CacheStore, type CacheStoreShape, type LoadOptions } from "../../CacheStore.js"
import type { Json } from "../../Json.js"
import type { PropertyOptions } from "../suite.js"
import { property } from "../suite.js"
import type { Test } from "./fixtures.js"

type Actor = 0 | 1

type Step =
  | { readonly op: "ask" | "askMany" | "interrupt"; readonly actor: Actor; readonly key: string }
  | { readonly op: "release" }
  | { readonly op: "get"; readonly actor: Actor; readonly key: string }
  | {
      readonly op: "delete" | "invalidate" | "invalidateTag" | "expire" | "expireTag" | "set" | "clear"
      readonly actor: Actor
      readonly key: string
    }

const actor = FastCheck.constantFrom<Actor>(0, 1)
const key = FastCheck.constantFrom("a", "a", "b")
const one = <const A extends string>(...ops: ReadonlyArray<A>) => FastCheck.constantFrom(...ops)

const history: FastCheck.Arbitrary<ReadonlyArray<Step>> = FastCheck.array(
  FastCheck.oneof(
    { weight: 6, arbitrary: FastCheck.record({ op: one("ask", "askMany"), actor, key }) },
    { weight: 1, arbitrary: FastCheck.record({ op: one("interrupt"), actor, key }) },
    { weight: 5, arbitrary: FastCheck.record({ op: one("release") }) },
    { weight: 2, arbitrary: FastCheck.record({ op: one("get"), actor, key }) },
    {
      weight: 5,
      arbitrary: FastCheck.record({
        op: one("delete", "invalidate", "invalidateTag", "expire", "expireTag", "set", "clear"),
        actor,
        key
      })
    }
  ),
  { minLength: 3, maxLength: 14, size: "max" }
)

const options = (key: string): LoadOptions => ({
  ttl: "1 hour",
  grace: "1 hour",
  tags: [`tag of ${key}`],
  // What is stale is allowed to be old, so nobody is served it here.
  softTimeout: Duration.infinity
})

/** What two processes do to the data of one tenant, and what is known of it. */
class World {
  /** The version of the source of each key. */
  private readonly source = new Map<string, number>()
  /** What a caller who asks now may see at least. */
  private readonly floors = new Map<string, number>()
  private readonly held: Array<Deferred.Deferred<void>> = []
  private readonly asks: Array<{
    readonly key: string
    readonly fiber: Fiber.RuntimeFiber<unknown, unknown>
    readonly floor: number
  }> = []
  private started = 0
  /** Values that a caller got and that had been removed before it asked. */
  readonly stale: Array<string> = []

  constructor(
    readonly tenantId: string,
    readonly stores: readonly [CacheStoreShape, CacheStoreShape]
  ) {}

  private version(key: string): number {
    return this.source.get(key) ?? 0
  }

  private judge(key: string, value: unknown, floor: number, how: string): void {
    if (typeof value === "number" && value < floor) this.stale.push(`${how} of ${key}: ${value}, not ${floor}`)
  }

  /** Reads the source, and then waits. */
  private readonly load = (key: string) =>
    Effect.suspend(() => {
      const version = this.version(key)
      const gate = Deferred.unsafeMake<void>(FiberId.none)
      this.held.push(gate)
      this.started++
      return Effect.as(Deferred.await(gate), version)
    })

  readonly run = (step: Step): Effect.Effect<void, unknown> =>
    Effect.gen(this, function* () {
      switch (step.op) {
        case "ask":
        case "askMany": {
          const { key } = step
          const store = this.stores[step.actor]
          const floor = this.floors.get(key) ?? 0
          const { started } = this
          const asking: Effect.Effect<Json | undefined, unknown> =
            step.op === "ask"
              ? store.getOrSet(this.tenantId, key, this.load(key), options(key))
              : Effect.map(
                  store.getOrSetMany(
                    this.tenantId,
                    [key],
                    (keys) => Effect.map(this.load(keys[0] as string), (value) => new Map([[key, value]])),
                    options(key)
                  ),
                  (found) => found.get(key)
                )
          const fiber = yield* Effect.forkDaemon(asking)
          this.asks.push({ key, fiber, floor })
          // Until it loads, has its value, or most probably waits for another's load.
          for (let i = 0; i < 8 && this.started === started && fiber.unsafePoll() === null; i++) yield* Effect.sleep(1)
          return
        }
        case "interrupt": {
          const last = this.asks[this.asks.length - 1]
          if (last !== undefined) yield* Fiber.interrupt(last.fiber)
          return
        }
        case "release": {
          const gate = this.held.shift()
          if (gate === undefined) return
          yield* Deferred.succeed(gate, undefined)
          yield* Effect.sleep(2)
          return
        }
        case "get": {
          const floor = this.floors.get(step.key) ?? 0
          const found = yield* this.stores[step.actor].get(this.tenantId, step.key)
          return this.judge(step.key, Option.getOrUndefined(found), floor, "get")
        }
        default: {
          const store = this.stores[step.actor]
          const { tenantId } = this
          const keys = step.op === "clear" ? ["a", "b"] : [step.key]
          for (const key of keys) this.source.set(key, this.version(key) + 1)
          const versions = keys.map((key) => this.version(key))
          const target = { keys: [step.key] }
          const tag = { tags: [`tag of ${step.key}`] }
          yield* {
            delete: () => store.delete(tenantId, step.key),
            invalidate: () => store.invalidate(tenantId, target),
            invalidateTag: () => store.invalidate(tenantId, tag),
            expire: () => store.expire(tenantId, target),
            expireTag: () => store.expire(tenantId, tag),
            set: () => {
              const { grace, tags, ttl } = options(step.key)
              return store.set(tenantId, step.key, versions[0], { grace, tags, ttl })
            },
            clear: () => store.clear(tenantId)
          }[step.op]()
          for (const [i, key] of keys.entries()) this.floors.set(key, versions[i] as number)
        }
      }
    })

  /** Lets all loads go, and looks at what all have got, and at what is there in the end. */
  readonly end: Effect.Effect<void, unknown> = Effect.gen(this, function* () {
    const releasing = yield* Effect.fork(
      Effect.forever(
        Effect.zipRight(
          Effect.suspend(() =>
            Effect.forEach(this.held.splice(0), (gate) => Deferred.succeed(gate, undefined), { discard: true })
          ),
          Effect.sleep(1)
        )
      )
    )
    for (const { fiber, floor, key } of this.asks) {
      const exit = yield* Fiber.await(fiber)
      if (Exit.isSuccess(exit)) this.judge(key, exit.value, floor, "ask")
      else assert.ok(Exit.isInterrupted(exit), String(exit))
    }
    yield* Fiber.interrupt(releasing)
    for (const store of this.stores) {
      for (const key of ["a", "b"]) {
        const found = yield* store.get(this.tenantId, key)
        this.judge(key, Option.getOrUndefined(found), this.floors.get(key) ?? 0, "the last get")
      }
    }
  })
}

/** As many write it first: look, load, set. */
const naive = (store: CacheStoreShape): CacheStoreShape => ({
  ...store,
  getOrSet: (tenantId, key, load, loadOptions) =>
    Effect.flatMap(
      store.get(tenantId, key),
      Option.match({
        onSome: Effect.succeed,
        onNone: () =>
          Effect.tap(
            Effect.map(load, (value) => value as Json),
            (value) => Effect.orDie(store.set(tenantId, key, value, { ttl: loadOptions?.ttl, tags: loadOptions?.tags }))
          )
      })
    )
})

export const interleavings = <E>(test: Test, layer: Layer.Layer<CacheStore, E>, given: PropertyOptions): void => {
  const holds = (change: (store: CacheStoreShape) => CacheStoreShape, options = given) =>
    Effect.gen(function* () {
      const one = change(yield* CacheStore)
      const two = change(Context.get(yield* Layer.build(layer), CacheStore))
      yield* property(history, options, (steps) =>
        Effect.gen(function* () {
          const world = new World(`interleaved-${randomUUID()}`, [one, two])
          const exit = yield* Effect.exit(Effect.forEach(steps, world.run, { discard: true }))
          // Also after a failure: what is held would be held on.
          yield* world.end
          yield* exit
          assert.deepEqual(world.stale, [])
        })
      )
    })

  test(`in ${given.runs} random interleavings nobody gets what was removed before asking`, () =>
    holds((store) => store))

  test("the same property finds a store that looks, loads and sets", () =>
    // A few histories may all miss it. They end with the first that does not.
    Effect.map(Effect.exit(holds(naive, { runs: Math.max(300, given.runs) })), (exit) => {
      assert.ok(Exit.isFailure(exit) && /(get|ask) of/.test(String(exit.cause)), String(exit))
    }))
}
