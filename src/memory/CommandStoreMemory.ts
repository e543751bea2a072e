/**
 * The CommandStore in memory: for tests, and as the model that the other backends are compared with. It survives
 * nothing but the scope of its `MemoryDatabase`. Its leases run on the Clock.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { CommandStore } from "../CommandStore.js"
import * as Encoded from "../commandStore/CommandStoreEncoded.js"
import type { InvalidInput } from "../Errors.js"
import { matcher } from "../internal/logs.js"
import { takePage } from "../internal/pages.js"
import { liftOptions } from "../internal/storeOptions.js"
import type { Database } from "./database/Database.js"
import { makeNote } from "./database/notes.js"
import { distinctPage } from "./database/queries.js"
import { keepRows, type Rows } from "./database/Rows.js"
import { storeLayers } from "./database/storeLayers.js"
import type { MemoryDatabase } from "./MemoryDatabase.js"

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
  readonly command: Encoded.EncodedCommand
  readonly leaseEndMs: number
  readonly token: string | null
  readonly changed: boolean
}

const bytesOf = ({ data, metadata, outcome }: Encoded.EncodedCommand): number =>
  data.length + metadata.length + (outcome?.length ?? 0)

const matches = matcher<Encoded.EncodedFilter, Encoded.EncodedCommand>({
  tenantId: (command, tenantId) => command.tenantId === tenantId,
  domain: (command, domain) => command.domain === domain,
  types: (command, types) => types.includes(command.type),
  statuses: (command, statuses) => statuses.includes(command.status),
  createdFrom: (command, from) => command.createdAt >= from,
  createdUntil: (command, until) => command.createdAt < until
})

/** In order of position. */
const matching = (rows: Pick<ReadonlyMap<string, Row>, "values">, filter: Encoded.EncodedFilter) =>
  [...rows.values()]
    .map(({ command }) => command)
    .filter(matches(filter))
    .sort((a, b) => a.position - b.position)

/** The row, while it is `received`. */
const received = (rows: Pick<Rows<Row>, "get">, id: string): Row | undefined => {
  const row = rows.get(id)
  return row?.command.status === "received" ? row : undefined
}

/** With what it is in order of. */
type Open = readonly [atMs: number, command: Encoded.EncodedOpenCommand]

const port = (database: Database): Encoded.Encoded => {
  const commands = keepRows<Row>(database)
  let lastPosition = 0

  return {
    create: (given, lease) =>
      commands.write((rows, now): Encoded.CreateOutcome => {
        const existing = rows.get(given.id)
        if (existing !== undefined) {
          const { leaseEndMs, ...found } = existing
          return { _tag: "Exists", ...found, leaseLeftMs: Math.max(0, leaseEndMs - now()) }
        }
        const command: Encoded.EncodedCommand = {
          ...given,
          position: ++lastPosition,
          status: "received",
          outcome: null,
          outcomeKeyId: null,
          attempts: lease === null ? 0 : 1,
          finishedAt: null
        }
        rows.set(given.id, {
          command,
          leaseEndMs: lease === null ? 0 : now() + lease.leaseMs,
          token: lease?.token ?? null,
          changed: false
        })
        return { _tag: "Created", command }
      }),

    takeOver: ({ attempts, id, leaseMs, position, token }) =>
      commands.write((rows, now) => {
        const row = received(rows, id)
        if (row?.command.position !== position || row.command.attempts !== attempts || row.leaseEndMs > now()) {
          return false
        }
        const command = { ...row.command, attempts: attempts + 1 }
        rows.set(id, { ...row, command, leaseEndMs: now() + leaseMs, token })
        return true
      }),

    renew: ({ id, leaseMs, token }) =>
      commands.write((rows, now) => {
        const row = received(rows, id)
        if (row?.token !== token) return false
        rows.set(id, { ...row, leaseEndMs: leaseMs === 0 ? 0 : now() + leaseMs })
        return true
      }),

    finish: ({ id, position, ...outcome }) =>
      commands.write((rows) => {
        const row = received(rows, id)
        if (row?.command.position !== position) return false
        rows.set(id, { ...row, command: { ...row.command, ...outcome }, leaseEndMs: 0 })
        return true
      }),

    close: ({ id, position, ...outcome }) =>
      commands.write((rows, now) => {
        const row = received(rows, id)
        if (row === undefined || row.leaseEndMs > now()) return false
        if (position !== null && row.command.position !== position) return false
        rows.set(id, { ...row, command: { ...row.command, ...outcome }, leaseEndMs: 0 })
        return true
      }),

    open: ({ filter, limit }) =>
      Effect.clockWith((clock) =>
        commands.read((rows) => {
          const nowMs = clock.unsafeCurrentTimeMillis()
          const isOpen = matches({ ...filter, statuses: ["received"] })
          return [...rows.values()]
            .flatMap(({ command, leaseEndMs }): ReadonlyArray<Open> => {
              if (!isOpen(command) || leaseEndMs > nowMs) return []
              const { attempts, createdAt, dueAt, id, position, type } = command
              // One without a due time is due at once, whichever clock has said when it was created.
              const dueInMs = dueAt === null ? Math.min(0, createdAt - nowMs) : dueAt - nowMs
              const isLeftBehind = leaseEndMs > 0
              return [[dueAt ?? createdAt, { id, type, position, attempts, dueInMs, isLeftBehind }]]
            })
            .sort(([atA, a], [atB, b]) => atA - atB || a.position - b.position)
            .slice(0, limit)
            .map(([, command]) => command)
        })
      ),

    postpone: ({ dueInMs, id, position }) =>
      commands.write((rows, now) => {
        const row = received(rows, id)
        if (row?.command.position !== position) return false
        rows.set(id, { ...row, command: { ...row.command, dueAt: now() + dueInMs } })
        return true
      }),

    get: (id) => commands.read((rows) => rows.get(id)?.command ?? null),

    list: ({ after, direction, filter, through, ...bounds }) =>
      commands.read((rows) => {
        const found = matching(rows, filter).filter(({ position }) => position > after && position <= through)
        return takePage(direction === "forward" ? found : found.reverse(), bounds, bytesOf)
      }),

    distinct: ({ field, filter, ...page }) =>
      commands.read((rows) =>
        distinctPage(
          matching(rows, filter).map((command) => command[field]),
          page
        )
      ),

    count: (filter) => commands.read((rows) => matching(rows, filter).length),

    info: commands.read((rows) => ({
      backend: "InMemory",
      connection: "memory",
      commands: rows.size,
      lastCommand: matching(rows, Encoded.anyCommand).at(-1) ?? null
    })),

    update: ({ data, id, keyId, metadata, status }) =>
      commands.write((rows) => {
        const row = rows.get(id)
        if (row === undefined) return false
        const { command } = row
        const changed = {
          ...command,
          data: data ?? command.data,
          metadata: metadata ?? command.metadata,
          keyId: data === null && metadata === null ? command.keyId : keyId,
          ...status
        }
        rows.set(id, {
          ...row,
          command: changed,
          leaseEndMs: status === null ? row.leaseEndMs : 0,
          changed: row.changed || data !== null
        })
        return true
      }),

    replace: ({ changes, id, payloads, was }) =>
      commands.write((rows) => {
        const row = rows.get(id)
        if (row === undefined || payloadFields.some((field) => row.command[field] !== was[field])) return false
        rows.set(id, { ...row, command: { ...row.command, ...payloads }, changed: row.changed || changes })
        return true
      }),

    delete: (id) => commands.write((rows) => rows.delete(id)),

    prune: (filter, limit) =>
      commands.write((rows) => {
        const found = matching(rows, filter).slice(0, limit)
        for (const { id } of found) rows.delete(id)
        return found.length
      }),

    reset: commands.write((rows) => rows.clear()),

    note: makeNote(),

    transaction: database.transaction
  }
}

const payloadFields = ["data", "metadata", "keyId", "outcome", "outcomeKeyId"] as const

const layers = storeLayers({
  tag: CommandStore,
  keys: { readOnly: true, instanceId: true },
  options: (options: Options) => liftOptions("memory", options),
  port,
  lift: (port, options) => Effect.succeed(Encoded.make(port, options))
})

/**
 * A port on a database of its own for each call.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: Effect.Effect<Encoded.Encoded> = layers.makeEncoded

/**
 * The CommandStore on a database that other stores share: what an effect writes there when it is executed with
 * `transaction`, events included, is kept with its outcome or not at all.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase: (options?: Options) => Layer.Layer<CommandStore, InvalidInput, MemoryDatabase> =
  layers.layerFromDatabase

/**
 * The CommandStore on a database of its own.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: (options?: Options) => Layer.Layer<CommandStore, InvalidInput> = layers.layer
