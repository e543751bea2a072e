/**
 * The property of bad input on the CommandStore: its operations, and what they must answer.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type {
  Command,
  CommandStoreShape,
  DistinctField,
  ExecuteOptions,
  Filter,
  NewCommand,
  Status
} from "../../CommandStore.js"
import { CommandStore } from "../../CommandStore.js"
import type { At, Operation } from "../hostileCalls.js"
import { copy, hostileCalls, isSteady, operationsOf, same } from "../hostileCalls.js"
import { hostileQueries, inTime, type LogWorld } from "../log.js"
import type { PropertyOptions } from "../suite.js"
import { collect } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshTenant, newCommand, plain } from "./fixtures.js"

type World = LogWorld<CommandStoreShape, Command>

const operation = operationsOf<World>({ store: CommandStore.of({} as CommandStoreShape), fixture: [], victim: "" })

const commandArg = (at: At, name: string): NewCommand => {
  const misspelt = at<unknown>(`${name}.instanceID`, undefined)
  return at(name, {
    ...(misspelt === undefined ? {} : { instanceID: misspelt }),
    id: at(`${name}.id`, randomUUID()),
    tenantId: at(`${name}.tenantId`, freshTenant()),
    domain: at(`${name}.domain`, "order"),
    type: at(`${name}.type`, "Place"),
    data: at<unknown>(`${name}.data`, { list: [0, at<unknown>(`${name}.data.list[1]`, 1)] }),
    metadata: at<NewCommand["metadata"]>(`${name}.metadata`, { trace: at<unknown>(`${name}.metadata.trace`, "t") }),
    instanceId: at<string | undefined>(`${name}.instanceId`, "instance"),
    createdAt: at<DateTime.Utc | undefined>(`${name}.createdAt`, DateTime.unsafeMake(1)),
    dueAt: at<DateTime.Utc | undefined>(`${name}.dueAt`, DateTime.unsafeMake(2))
  })
}

const filterFields = (at: At, name: string, tenantId: string | undefined): Filter => ({
  tenantId: at(`${name}.tenantId`, tenantId),
  domain: at<string | undefined>(`${name}.domain`, undefined),
  types: at<ReadonlyArray<string> | undefined>(`${name}.types`, ["Place", at(`${name}.types[1]`, "Other")]),
  statuses: at<ReadonlyArray<Status> | undefined>(`${name}.statuses`, [at<Status>(`${name}.statuses[0]`, "received")]),
  createdFrom: at<DateTime.Utc | undefined>(`${name}.createdFrom`, undefined)
})

const filterArg = (at: At, name: string, tenantId: string | undefined): Filter =>
  at(name, {
    ...filterFields(at, name, tenantId),
    createdUntil: at<DateTime.Utc | undefined>(`${name}.createdUntil`, undefined)
  })

const tenantOf = ({ fixture }: World): string | undefined => fixture[0]?.tenantId

const assertStored = (command: Command, given: NewCommand): void => {
  assert.ok(!Object.keys(given).includes("instanceID"), "a misspelt key was left out silently")
  const { createdAt, data, domain, dueAt, id, instanceId, metadata, tenantId, type } = given
  same([command.id, command.tenantId, command.domain, command.type], [id, tenantId, domain, type], "a field")
  assert.ok(!("polluted" in command) && !("polluted" in {}), "a prototype was polluted")
  if (instanceId !== undefined) same(command.instanceId, instanceId, "instanceId")
  if (createdAt !== undefined) same(command.createdAt.epochMillis, createdAt.epochMillis, "createdAt")
  same(command.dueAt?.epochMillis, dueAt?.epochMillis, "dueAt")
  if (!isSteady(data, metadata)) return
  same(command.data, copy(data), "data")
  same(command.metadata, copy(metadata ?? {}), "metadata")
}

const { assertFound, operations: queries } = hostileQueries(operation, {
  filterArg,
  matches: (command, filter) => {
    const { domain, statuses, types } = filter
    return (
      (domain === undefined || domain === command.domain) &&
      (types === undefined || types.includes(command.type)) &&
      (statuses === undefined || statuses.includes(command.status)) &&
      inTime(command, filter)
    )
  },
  field: "type" as DistinctField,
  get: (store, id) => store.get(id),
  page: (store, options) => Effect.map(store.page(options), ({ commands }) => commands),
  distinct: (store, field, filter) => store.distinct(field, filter),
  count: (store, filter) => store.count(filter)
})

const operations: Readonly<Record<string, Operation<World>>> = {
  create: operation({
    args: (at) => ({ command: commandArg(at, "command") }),
    run: (store, { command }) => store.create(command),
    check: ({ store }, { command }, created) =>
      Effect.map(store.get(created.id), (found) => {
        assertStored(created, command)
        assert.deepEqual(plain(Option.getOrThrow(found)), plain(created))
      })
  }),

  execute: operation({
    args: (at) => ({
      command: commandArg(at, "command"),
      effect: at<Effect.Effect<number, string>>("effect", Effect.succeed(7)),
      options: at<ExecuteOptions<Schema.Schema<number>, Schema.Schema<string>>>("options", {
        success: at<Schema.Schema<number>>("options.success", Schema.Number),
        failure: at<Schema.Schema<string> | undefined>("options.failure", Schema.String),
        lease: at("options.lease", "1 hour"),
        transaction: at<boolean | undefined>("options.transaction", true)
      })
    }),
    run: (store, { command, effect, options }) =>
      Effect.mapError(store.execute(command, effect, options), (error) =>
        typeof error === "string" ? { _tag: error } : error
      ),
    check: ({ store }, { command }, answer) =>
      Effect.map(store.get(command.id), (found) => {
        const stored = Option.getOrThrow(found)
        assertStored(stored, command)
        // Without a Schema nothing of the result is kept.
        assert.deepEqual([answer, stored.status, Option.getOrElse(stored.outcome, () => 7)], [7, "succeeded", 7])
      })
  }),

  list: operation({
    args: (at, world) => ({
      options: at("options", {
        filter: filterArg(at, "options.filter", tenantOf(world)),
        direction: at<"forward" | "backward">("options.direction", "forward"),
        limit: at("options.limit", 10)
      })
    }),
    run: (store, { options }) => collect(Stream.take(store.list(options), 20)),
    check: (world, { options }, commands) =>
      Effect.sync(() => {
        if (options?.direction === "forward") assertFound(world, options.filter, commands, options.limit ?? 20)
      })
  }),

  ...queries,

  update: operation({
    args: (at, { victim }) => ({
      id: at("id", victim),
      changes: at("changes", {
        data: at<unknown>("changes.data", { redacted: at<unknown>("changes.data.redacted", true) }),
        metadata: at<NewCommand["metadata"]>("changes.metadata", { by: at<unknown>("changes.metadata.by", "me") }),
        status: at<Status | undefined>("changes.status", "failed"),
        outcome: at<unknown>("changes.outcome", { why: at<unknown>("changes.outcome.why", "operator") })
      })
    }),
    run: (store, { changes, id }) => store.update(id, changes),
    check: ({ store }, { changes: { data, metadata, outcome, status }, id }) =>
      Effect.map(store.get(id), (found) => {
        const stored = Option.getOrThrow(found)
        if (!isSteady(data, metadata, outcome)) return
        if (data !== undefined) same(stored.data, copy(data), "data")
        if (metadata !== undefined) same(stored.metadata, copy(metadata), "metadata")
        if (status !== undefined) {
          same([stored.status, Option.getOrUndefined(stored.outcome)], [status, copy(outcome)], "status and outcome")
        }
      })
  }),

  cancel: operation({
    args: (at) => ({ id: at("id", randomUUID()) }),
    run: (store, { id }) => store.cancel(id),
    check: (_, __, isCancelled) => Effect.sync(() => assert.equal(isCancelled, false))
  }),

  delete: operation({
    args: (at) => ({ id: at("id", randomUUID()) }),
    run: (store, { id }) => store.delete(id),
    check: ({ store }, { id }) => Effect.map(store.get(id), (found) => assert.ok(Option.isNone(found)))
  }),

  // Before all that is created here, but for what a case has set to an earlier time.
  prune: operation({
    args: (at, world) => ({
      options: at("options", {
        ...filterFields(at, "options", tenantOf(world)),
        createdUntil: at("options.createdUntil", DateTime.unsafeMake(1))
      })
    }),
    run: (store, { options }) => store.prune(options),
    check: () => Effect.void
  })
}

// Among the hostile values is one right UUID, which two cases may give to different commands.
const documented = ["InvalidInput", "NotFound", "DuplicateCommand"]

export const badInput = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} calls with hostile values fail typed and change nothing, or are answered rightly`, () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const at = { createdAt: DateTime.unsafeMake(5) }
      for (const type of ["Place", "Other", "Third"]) yield* store.create(newCommand({ tenantId, type, ...at }))
      const { id: victim } = yield* store.create(newCommand(at))
      const fixture = yield* collect(store.list({ filter: { tenantId } }))
      const world: World = { store, fixture, victim }
      yield* hostileCalls(options, {
        operations,
        weightOf: (name) => (name === "create" || name === "execute" ? 12 : 5),
        world,
        state: Effect.all([store.count(), Effect.map(store.get(victim), Option.map(plain))]),
        documented
      })
      assert.deepEqual((yield* collect(store.list({ filter: { tenantId } }))).map(plain), fixture.map(plain))
    }))
}
