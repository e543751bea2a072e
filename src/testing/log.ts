/**
 * What the suites of EventStore and CommandStore share: both keep records in an order of positions, which readers look
 * through by filter, page by page.
 */
import assert from "node:assert/strict"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { At, Operation, operationsOf } from "./hostileCalls.js"
import { same } from "./hostileCalls.js"
import { collect } from "./suite.js"

interface Recorded {
  readonly id: string
  readonly tenantId: string
  readonly createdAt: DateTime.Utc
}

interface TimeFilter {
  readonly createdFrom?: DateTime.Utc | undefined
  readonly createdUntil?: DateTime.Utc | undefined
}

type Direction = "forward" | "backward"

/**
 * U+E000 to U+FFFF sort before what is beyond the basic plane by bytes and by code points, and after it by UTF-16 code
 * units.
 */
export const awkwardNames = [
  "Z",
  "a",
  "~",
  "\u007f",
  "\u00e9",
  "e\u0301",
  "\u0416",
  "\ud7ff",
  "\ue000",
  "\uff5e",
  "\ufffd",
  "\u{10000}",
  "\u{1f600}",
  "\u{10ffff}",
  "a ",
  "a0"
]

/** Filters by time, and what each of them finds. */
export const timeFilters: ReadonlyArray<
  readonly [name: string, TimeFilter, matches: (record: { readonly createdAt: DateTime.Utc }) => boolean]
> = [
  [
    "time from, inclusive",
    { createdFrom: DateTime.unsafeMake(1001) },
    ({ createdAt }) => createdAt.epochMillis >= 1001
  ],
  [
    "time until, exclusive",
    { createdUntil: DateTime.unsafeMake(1001) },
    ({ createdAt }) => createdAt.epochMillis < 1001
  ],
  [
    "an empty span of time",
    { createdFrom: DateTime.unsafeMake(1000), createdUntil: DateTime.unsafeMake(1000) },
    () => false
  ]
]

/** All pages from the first on; `between` runs after each. */
export const walkPages = <A, E, R, E2, R2>(
  page: (
    cursor: string | undefined
  ) => Effect.Effect<{ readonly items: ReadonlyArray<A>; readonly next: Option.Option<string> }, E, R>,
  limit: number,
  between: Effect.Effect<unknown, E2, R2>
): Effect.Effect<ReadonlyArray<A>, E | E2, R | R2> =>
  Effect.gen(function* () {
    const found: Array<A> = []
    let cursor: string | undefined
    do {
      const { items, next } = yield* page(cursor)
      assert.ok(items.length <= limit)
      found.push(...items)
      cursor = Option.getOrUndefined(next)
      yield* between
    } while (cursor !== undefined)
    return found
  })

const small = FastCheck.integer({ min: 1, max: 5 })

/** Steps of a random history that look through the log. */
export const pageStep = <Filter>(filter: FastCheck.Arbitrary<Filter>) =>
  FastCheck.record({
    op: FastCheck.constant("page" as const),
    filter,
    direction: FastCheck.constantFrom<Direction>("forward", "backward"),
    limit: small
  })

export const distinctStep = <Filter, Field>(
  filter: FastCheck.Arbitrary<Filter>,
  fields: readonly [Field, ...ReadonlyArray<Field>]
) =>
  FastCheck.record({
    op: FastCheck.constant("distinct" as const),
    field: FastCheck.constantFrom<Field>(...fields),
    filter
  })

export const countStep = <Filter>(filter: FastCheck.Arbitrary<Filter>) =>
  FastCheck.record({ op: FastCheck.constant("count" as const), filter })

/** What the calls with hostile values know of the store. */
export interface LogWorld<Store, Row> {
  readonly store: Store
  /** Records that no case may change, all of one tenant. */
  readonly fixture: ReadonlyArray<Row>
  /** The id of the one that is changed. */
  readonly victim: string
}

interface LogOptions<Filter> {
  readonly filter?: Filter
  readonly direction?: Direction
  readonly cursor?: string | undefined
  readonly limit?: number
}

type Failure = { readonly _tag: string }

/** The operations with hostile values that all logs have, and the check of what a filter has found. */
export const hostileQueries = <
  Store,
  Row extends Recorded,
  Filter extends { readonly tenantId?: string | undefined },
  Field extends string,
  E extends Failure
>(
  operation: ReturnType<typeof operationsOf<LogWorld<Store, Row>>>,
  log: {
    readonly filterArg: (at: At, name: string, tenantId: string | undefined) => Filter
    readonly matches: (row: Row, filter: Filter) => boolean
    readonly field: Field
    readonly get: (store: Store, id: string) => Effect.Effect<Option.Option<Row>, E>
    readonly page: (store: Store, options: LogOptions<Filter>) => Effect.Effect<ReadonlyArray<Row>, E>
    readonly distinct: (store: Store, field: Field, filter: Filter) => Stream.Stream<string, E>
    readonly count: (store: Store, filter: Filter) => Effect.Effect<number, E>
  }
) => {
  type World = LogWorld<Store, Row>
  const tenantOf = ({ fixture }: World): string | undefined => fixture[0]?.tenantId

  /** What of the fixture the filter names; undefined when it looks beyond the fixture. */
  const expectedOf = (world: World, filter: Filter | undefined): ReadonlyArray<string> | undefined =>
    filter === undefined || filter === null || filter.tenantId !== tenantOf(world)
      ? undefined
      : world.fixture.filter((row) => log.matches(row, filter)).map(({ id }) => id)

  const assertFound = (world: World, filter: Filter | undefined, found: ReadonlyArray<Row>, limit: number): void => {
    const expected = expectedOf(world, filter)
    if (expected !== undefined)
      same(found.map(({ id }) => id).sort(), expected.slice(0, limit).sort(), "what was found")
  }

  const operations: Readonly<Record<"get" | "page" | "distinct" | "count", Operation<World>>> = {
    get: operation({
      args: (at, { victim }) => ({ id: at("id", victim) }),
      run: (store, { id }) => log.get(store, id),
      check: (_, { id }, found) =>
        Effect.sync(() => {
          if (Option.isSome(found)) same(found.value.id, id, "id")
        })
    }),

    page: operation({
      args: (at, world) => ({
        options: at<LogOptions<Filter>>("options", {
          filter: log.filterArg(at, "options.filter", tenantOf(world)),
          direction: at<Direction>("options.direction", "forward"),
          cursor: at<string | undefined>("options.cursor", undefined),
          limit: at("options.limit", 10)
        })
      }),
      run: (store, { options }) => log.page(store, options),
      check: (world, { options }, found) =>
        Effect.sync(() => {
          const whole = options !== null && options?.cursor === undefined && options?.direction === "forward"
          if (whole) assertFound(world, options.filter, found, options.limit ?? 100)
        })
    }),

    distinct: operation({
      args: (at, world) => ({
        field: at<Field>("field", log.field),
        filter: log.filterArg(at, "filter", tenantOf(world))
      }),
      run: (store, { field, filter }) => collect(Stream.take(log.distinct(store, field, filter), 10)),
      check: () => Effect.void
    }),

    count: operation({
      args: (at, world) => ({ filter: log.filterArg(at, "filter", tenantOf(world)) }),
      run: (store, { filter }) => log.count(store, filter),
      check: (world, { filter }, count) =>
        Effect.sync(() => {
          const expected = expectedOf(world, filter)
          if (expected !== undefined) assert.equal(count, expected.length)
        })
    })
  }
  return { assertFound, operations }
}

/** Whether the record is in the filter's span of time. */
export const inTime = ({ createdAt }: Recorded, { createdFrom, createdUntil }: TimeFilter): boolean =>
  (createdFrom === undefined || createdAt.epochMillis >= createdFrom.epochMillis) &&
  (createdUntil === undefined || createdAt.epochMillis < createdUntil.epochMillis)
