/**
 * The CommandStore in memory: for tests, and as the model that the other backends are held against. It survives nothing
 * but the layer's scope, and knows no transactions. Its leases run on the Clock.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import { CommandStore } from "../CommandStore.js"
import type { Encoded, EncodedCommand, EncodedFilter } from "../commandStore/CommandStoreEncoded.js"
import { make } from "../commandStore/CommandStoreEncoded.js"
import type { InvalidInput } from "../Errors.js"
import { liftOptions, onlyKnown } from "../internal/storeOptions.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
  /** What commands without one get as their `instanceId`. */
  readonly instanceId?: string | undefined
}

interface Row {
  command: EncodedCommand
  leaseEndMs: number
}

/**
 * A port of its own for each call.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: Effect.Effect<Encoded> = Effect.sync(() => {
  // In order of position.
  const rows = new Map<string, Row>()
  let lastPosition = 0

  const atNow = <A>(step: (nowMs: number) => A): Effect.Effect<A> =>
    Effect.clockWith((clock) => Effect.sync(() => step(clock.unsafeCurrentTimeMillis())))

  /** The row, while it is `received` and this is its attempt. */
  const ofAttempt = (id: string, attempts: number): Row | undefined => {
    const row = rows.get(id)
    return row?.command.status === "received" && row.command.attempts === attempts ? row : undefined
  }

  const matching = (filter: EncodedFilter): Array<EncodedCommand> =>
    [...rows.values()].map(({ command }) => command).filter((command) => matches(command, filter))

  return {
    create: (given, leaseMs) =>
      atNow((nowMs) => {
        const existing = rows.get(given.id)
        if (existing !== undefined) {
          const leaseLeftMs = Math.max(0, existing.leaseEndMs - nowMs)
          return { _tag: "Exists", command: existing.command, leaseLeftMs }
        }
        const command: EncodedCommand = {
          ...given,
          position: ++lastPosition,
          status: "received",
          outcome: null,
          outcomeKeyId: null,
          attempts: leaseMs > 0 ? 1 : 0,
          finishedAt: null
        }
        rows.set(given.id, { command, leaseEndMs: leaseMs > 0 ? nowMs + leaseMs : 0 })
        return { _tag: "Created", command }
      }),

    takeOver: ({ attempts, id, leaseMs }) =>
      atNow((nowMs) => {
        const row = ofAttempt(id, attempts)
        if (row === undefined || row.leaseEndMs > nowMs) return false
        row.command = { ...row.command, attempts: attempts + 1 }
        row.leaseEndMs = nowMs + leaseMs
        return true
      }),

    renew: ({ attempt, id, leaseMs }) =>
      atNow((nowMs) => {
        const row = ofAttempt(id, attempt)
        if (row !== undefined) row.leaseEndMs = leaseMs === 0 ? 0 : nowMs + leaseMs
        return row !== undefined
      }),

    finish: ({ attempt, id, ...outcome }) =>
      Effect.sync(() => {
        const row = ofAttempt(id, attempt)
        if (row === undefined) return false
        row.command = { ...row.command, ...outcome }
        row.leaseEndMs = 0
        return true
      }),

    get: (id) => Effect.sync(() => rows.get(id)?.command ?? null),

    list: ({ after, direction, filter, limit, through }) =>
      Effect.sync(() => {
        const found = matching(filter).filter(({ position }) => position > after && position <= through)
        return (direction === "forward" ? found : found.reverse()).slice(0, limit)
      }),

    distinct: ({ after, field, filter, limit }) =>
      Effect.sync(() => {
        const values = new Set(matching(filter).flatMap((command) => command[field] ?? []))
        return [...values]
          .filter((value) => after === null || byBytes(value, after) > 0)
          .sort(byBytes)
          .slice(0, limit)
      }),

    count: (filter) => Effect.sync(() => matching(filter).length),

    info: Effect.sync(() => ({
      backend: "InMemory",
      connection: "memory",
      commands: rows.size,
      lastCommand: [...rows.values()].at(-1)?.command ?? null
    })),

    update: ({ data, id, keyId, metadata, status }) =>
      Effect.sync(() => {
        const row = rows.get(id)
        if (row === undefined) return false
        const { command } = row
        row.command = {
          ...command,
          data: data ?? command.data,
          metadata: metadata ?? command.metadata,
          keyId: data === null && metadata === null ? command.keyId : keyId,
          ...status
        }
        if (status !== null) row.leaseEndMs = 0
        return true
      }),

    delete: (id) => Effect.sync(() => rows.delete(id)),

    prune: (filter, limit) =>
      Effect.sync(() => {
        const found = matching(filter).slice(0, limit)
        for (const { id } of found) rows.delete(id)
        return found.length
      }),

    reset: Effect.sync(() => rows.clear()),

    transaction: identity
  }
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<CommandStore, InvalidInput> =>
  Layer.effect(
    CommandStore,
    Effect.gen(function* () {
      yield* onlyKnown(options, { readOnly: true, instanceId: true })
      return make(yield* makeEncoded, yield* liftOptions("memory", options))
    })
  )

const matches = (command: EncodedCommand, filter: EncodedFilter): boolean =>
  (filter.tenantId === null || filter.tenantId === command.tenantId) &&
  (filter.domain === null || filter.domain === command.domain) &&
  (filter.types === null || filter.types.includes(command.type)) &&
  (filter.statuses === null || filter.statuses.includes(command.status)) &&
  (filter.createdFrom === null || command.createdAt >= filter.createdFrom) &&
  (filter.createdUntil === null || command.createdAt < filter.createdUntil)

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))
