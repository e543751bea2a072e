/**
 * The property of equal meaning: random histories of operations run on a backend and on the backend in memory, step by
 * step, and every answer must be the same, but for the values of positions and the times of outcomes. Executions end
 * within their step, so no lease is left for a clock to end.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type {
  Changes,
  Command,
  CommandStoreShape,
  DistinctField,
  Filter,
  NewCommand,
  Status
} from "../../CommandStore.js"
import { CommandStore } from "../../CommandStore.js"
import type { Direction } from "../../EventStore.js"
import type { Json } from "../../Json.js"
import * as CommandStoreMemory from "../../memory/CommandStoreMemory.js"
import * as Uuid from "../../Uuid.js"
import { json } from "../hostile.js"
import { countStep, distinctStep, pageStep } from "../log.js"
import type { PropertyOptions } from "../suite.js"
import { collect, isEnough, property } from "../suite.js"
import type { Test } from "./fixtures.js"

type End = "success" | "nothing" | "failure" | "other failure" | "defect"

interface Plan {
  /** Which id: few, so that repeats and clashes are common. */
  readonly slot: number
  readonly tenant: number
  readonly type: string
  readonly data: Json
  readonly trace: string
  readonly instanceId: string | undefined
  readonly createdAt: number
  readonly dueAt: number | undefined
}

interface FilterPlan {
  readonly tenant: number | undefined
  readonly domain: string | undefined
  readonly types: ReadonlyArray<string> | undefined
  readonly statuses: ReadonlyArray<Status> | undefined
  readonly createdFrom: number | undefined
  readonly createdUntil: number | undefined
}

type Step =
  | { readonly op: "create"; readonly plan: Plan }
  | {
      readonly op: "execute"
      readonly plan: Plan
      readonly end: End
      readonly value: Json
      readonly transaction: boolean
    }
  | { readonly op: "get"; readonly slot: number }
  | {
      readonly op: "list"
      readonly filter: FilterPlan
      readonly direction: Direction
      readonly limit: number | undefined
    }
  | { readonly op: "page"; readonly filter: FilterPlan; readonly direction: Direction; readonly limit: number }
  | { readonly op: "distinct"; readonly field: DistinctField; readonly filter: FilterPlan }
  | { readonly op: "count"; readonly filter: FilterPlan }
  | { readonly op: "update"; readonly slot: number; readonly changes: Changes }
  | { readonly op: "cancel"; readonly slot: number }
  | { readonly op: "delete"; readonly slot: number }
  | { readonly op: "prune"; readonly filter: FilterPlan }
  | { readonly op: "info" }
  | { readonly op: "reset" }

const tenants = ["one", "two:"]
const domains = ["order", "invoice"]
const types = ["Place", "\uff5e", "\u{1f600}"]
const statuses: ReadonlyArray<Status> = ["received", "succeeded", "failed"]
const times = [-62_167_219_200_000, -1, 0, 1, 2, 2 ** 31, 2 ** 32, 1_700_000_000_000, 253_402_300_799_999]
const slotCount = 5

const optional = <A>(arbitrary: FastCheck.Arbitrary<A>, freq = 2) =>
  FastCheck.option(arbitrary, { nil: undefined, freq })
const time = FastCheck.constantFrom(...times)
const slot = FastCheck.oneof(FastCheck.constant(0), FastCheck.nat({ max: slotCount - 1 }))
const direction = FastCheck.constantFrom<Direction>("forward", "backward")
const tenant = FastCheck.constantFrom(0, 0, 0, 0, 1)
const data = FastCheck.oneof(
  { weight: 4, arbitrary: FastCheck.constant<Json>({ a: 1 }) },
  { weight: 1, arbitrary: json }
)

// Mostly the same content, so that a repeat is one.
const plan: FastCheck.Arbitrary<Plan> = FastCheck.tuple(
  FastCheck.record({
    slot,
    instanceId: optional(FastCheck.constantFrom("i", "j")),
    createdAt: time,
    dueAt: optional(time)
  }),
  FastCheck.oneof(
    { weight: 3, arbitrary: FastCheck.constant({ tenant: 0, type: "Place", data: { a: 1 }, trace: "t" }) },
    {
      weight: 2,
      arbitrary: FastCheck.record({
        tenant,
        type: FastCheck.constantFrom("Place", ...types),
        data,
        trace: FastCheck.constantFrom("t", "t", "T")
      })
    }
  )
).map(([common, content]) => ({ ...common, ...content }))

const filter: FastCheck.Arbitrary<FilterPlan> = FastCheck.record({
  tenant: optional(tenant),
  domain: optional(FastCheck.constantFrom(...domains), 1),
  types: optional(FastCheck.uniqueArray(FastCheck.constantFrom(...types, "Never"), { minLength: 1 }), 1),
  statuses: optional(FastCheck.uniqueArray(FastCheck.constantFrom(...statuses), { minLength: 1 }), 1),
  createdFrom: optional(time, 1),
  createdUntil: optional(time, 1)
})

const changes: FastCheck.Arbitrary<Changes> = FastCheck.oneof(
  FastCheck.record(
    {
      data: json,
      metadata: FastCheck.record({ by: json }),
      status: FastCheck.constantFrom(...statuses),
      outcome: json
    },
    { requiredKeys: [] }
  ),
  // What keeps the command the same, so that it is asked for again.
  FastCheck.record({ status: FastCheck.constantFrom<Status>("succeeded", "failed"), outcome: json })
)

const step = (weight: number, arbitrary: FastCheck.Arbitrary<Step>) => ({ weight, arbitrary })

const history: FastCheck.Arbitrary<ReadonlyArray<Step>> = FastCheck.array(
  FastCheck.oneof(
    step(10, FastCheck.record({ op: FastCheck.constant("create"), plan })),
    step(
      10,
      FastCheck.record({
        op: FastCheck.constant("execute"),
        plan,
        end: FastCheck.constantFrom<End>("success", "nothing", "failure", "other failure", "defect"),
        value: json,
        transaction: FastCheck.boolean()
      })
    ),
    step(3, FastCheck.record({ op: FastCheck.constant("get"), slot })),
    step(
      4,
      FastCheck.record({
        op: FastCheck.constant("list"),
        filter,
        direction,
        limit: optional(FastCheck.integer({ min: 1, max: 5 }))
      })
    ),
    step(3, pageStep(filter)),
    step(3, distinctStep<FilterPlan, DistinctField>(filter, ["tenantId", "domain", "type", "status", "instanceId"])),
    step(2, countStep(filter)),
    step(5, FastCheck.record({ op: FastCheck.constant("update"), slot, changes })),
    step(2, FastCheck.record({ op: FastCheck.constant("cancel"), slot })),
    step(2, FastCheck.record({ op: FastCheck.constant("delete"), slot })),
    step(
      2,
      FastCheck.record({
        op: FastCheck.constant("prune"),
        filter: FastCheck.tuple(filter, time).map(([filter, createdUntil]) => ({ ...filter, createdUntil }))
      })
    ),
    step(1, FastCheck.record({ op: FastCheck.constant("info") })),
    step(1, FastCheck.record({ op: FastCheck.constant("reset") }))
  ),
  { minLength: 1, maxLength: 30, size: "max" }
)

const utc = (ms: number | undefined) => (ms === undefined ? undefined : DateTime.unsafeMake(ms))

/** What differs between two stores that mean the same is left out. */
const comparable = ({ createdAt, dueAt, finishedAt, position: _, ...command }: Command) => ({
  ...command,
  dueAt: dueAt?.epochMillis,
  createdAt: createdAt.epochMillis,
  finished: finishedAt !== undefined
})

const Failure = Schema.Struct({ _tag: Schema.tag("Known"), value: Schema.Unknown })
// Absent and null are told apart.
const Success = Schema.Union(Schema.Undefined, Schema.Struct({ value: Schema.Unknown }))

const ending = (
  end: End,
  value: Json
): Effect.Effect<
  { readonly value: unknown } | undefined,
  { readonly _tag: "Known"; readonly value: unknown } | { readonly _tag: "Unknown" }
> => {
  switch (end) {
    case "success":
      return Effect.succeed({ value })
    case "nothing":
      return Effect.succeed(undefined)
    case "failure":
      return Effect.fail({ _tag: "Known" as const, value })
    case "other failure":
      return Effect.fail({ _tag: "Unknown" as const })
    case "defect":
      return Effect.die("defect")
  }
}

/** Errors by what a caller tells them by; the cause of a refused decoding is Schema's own. */
const told = (exit: Exit.Exit<unknown, { readonly _tag: string }>) =>
  Exit.match(exit, {
    onSuccess: (value) => ({ value }),
    onFailure: (cause) =>
      cause._tag === "Fail"
        ? {
            ...Object.fromEntries(Object.entries(cause.error).filter(([key]) => key !== "cause")),
            _tag: cause.error._tag
          }
        : cause._tag
  })

const perform = (step: Step, run: string, store: CommandStoreShape): Effect.Effect<unknown, unknown> => {
  const idOf = (slot: number): string => Uuid.derived(run, [slot])
  const tenantOf = (tenant: number): string => `${run}${tenants[tenant]}`
  const commandOf = (plan: Plan): NewCommand => ({
    id: idOf(plan.slot),
    tenantId: tenantOf(plan.tenant),
    domain: domains[plan.slot % 2] as string,
    type: plan.type,
    data: plan.data,
    metadata: { trace: plan.trace },
    instanceId: plan.instanceId,
    createdAt: DateTime.unsafeMake(plan.createdAt),
    dueAt: utc(plan.dueAt)
  })
  const filterOf = ({ createdFrom, createdUntil, tenant, ...filter }: FilterPlan): Filter => ({
    ...filter,
    tenantId: tenant === undefined ? undefined : tenantOf(tenant),
    createdFrom: utc(createdFrom),
    createdUntil: utc(createdUntil)
  })
  switch (step.op) {
    case "create":
      return Effect.map(Effect.exit(Effect.map(store.create(commandOf(step.plan)), comparable)), told)
    case "execute": {
      const { transaction } = step
      const options = { success: Success, failure: Failure, lease: "1 hour", transaction } as const
      return Effect.map(Effect.exit(store.execute(commandOf(step.plan), ending(step.end, step.value), options)), told)
    }
    case "get":
      return Effect.map(store.get(idOf(step.slot)), Option.map(comparable))
    case "list": {
      const { direction, limit } = step
      const listed = collect(store.list({ filter: filterOf(step.filter), direction, limit }))
      return Effect.map(listed, (commands) => commands.map(comparable))
    }
    case "page":
      return Effect.gen(function* () {
        const { direction, limit } = step
        const pages: Array<ReadonlyArray<unknown>> = []
        let cursor: string | undefined
        do {
          const page = yield* store.page({ filter: filterOf(step.filter), direction, limit, cursor })
          pages.push(page.commands.map(comparable))
          cursor = Option.getOrUndefined(page.next)
        } while (cursor !== undefined)
        return pages
      })
    case "distinct":
      return collect(store.distinct(step.field, filterOf(step.filter)))
    case "count":
      return store.count(filterOf(step.filter))
    case "update":
      return Effect.map(Effect.exit(store.update(idOf(step.slot), step.changes)), told)
    case "cancel":
      return store.cancel(idOf(step.slot))
    case "delete":
      return store.delete(idOf(step.slot))
    case "prune": {
      const { createdUntil, ...rest } = filterOf(step.filter)
      return store.prune({ ...rest, createdUntil: createdUntil ?? DateTime.unsafeMake(0) })
    }
    case "info":
      return Effect.map(store.info, ({ commands, lastCommand }) => ({
        commands,
        last: Option.map(lastCommand, comparable)
      }))
    case "reset":
      return store.reset
  }
}

const kindOf = ({ op }: Step, answer: unknown): string => {
  if (typeof answer === "object" && answer !== null && "_tag" in answer) return `${op} ${answer._tag}`
  if (op === "prune") return `prune ${(answer as number) > 0 ? "some" : "none"}`
  return op === "delete" || op === "cancel" ? `${op} ${answer}` : typeof answer === "string" ? `${op} ${answer}` : op
}

export const model = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} random histories have the same answers here and in memory`, () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const seen = new Map<string, number>()
      yield* property(history, options, (steps) =>
        Effect.gen(function* () {
          const run = randomUUID()
          const inMemory = yield* CommandStore
          // What earlier histories left would be counted here only.
          yield* store.reset
          for (const [i, step] of steps.entries()) {
            const expected = yield* perform(step, run, inMemory)
            const actual = yield* perform(step, run, store)
            assert.deepEqual(actual, expected, `step ${i + 1} of ${steps.length}: ${step.op}`)
            const kind = kindOf(step, expected)
            seen.set(kind, (seen.get(kind) ?? 0) + 1)
          }
        }).pipe(Effect.provide(CommandStoreMemory.layer()))
      )
      // A generator that never reaches an outcome proves nothing about it.
      if (options.runs >= 100) {
        for (const kind of kinds)
          assert.ok(
            isEnough(seen.get(kind) ?? 0, { of: options.runs, share: 1 / 50, usual: 300 }),
            `too few histories reach: ${kind}`
          )
      }
    }))
}

const kinds = [
  "create",
  "create DuplicateCommand",
  "execute",
  "execute Known",
  "execute Unknown",
  "execute Die",
  "execute DuplicateCommand",
  "execute CommandDecodeError",
  "get Some",
  "get None",
  "update",
  "update NotFound",
  "update InvalidInput",
  "cancel true",
  "cancel false",
  "delete true",
  "delete false",
  "prune some",
  "prune none"
]
