/**
 * The SnapshotStore in Redis: a hash per stream, saved by a script in one round trip. Redis may lose what it has
 * acknowledged, by eviction, a crash or a failover. A lost snapshot costs a longer read and nothing else.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { InvalidInput, ReadFailure, StoreFailure } from "../Errors.js"
import type { StreamId } from "../EventStore.js"
import * as variables from "../internal/config.js"
import type { Pages } from "../internal/pages.js"
import { type Keys, onlyKnown } from "../internal/storeOptions.js"
import { checked, fields, identifier, refuse } from "../internal/validate.js"
import * as Pool from "../Pool.js"
import { SnapshotStore } from "../SnapshotStore.js"
import * as Encoded from "../snapshotStore/SnapshotStoreEncoded.js"
import { batch, command, evaluate, makeScript } from "./database/commands.js"
import { isCluster } from "./database/driver.js"
import { replyCode } from "./database/failures.js"
import * as RedisDatabase from "./RedisDatabase.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions {
  /**
   * The beginning of the keys, without braces. Default `es:snapshot:`. Stores with the same prefix on the same database
   * are the same store. Stores with different prefixes never touch each other's keys, even if one prefix begins with
   * the other.
   */
  readonly prefix?: string | undefined
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export type Options = RedisDatabase.Options & StoreOptions

/**
 * Keeps a hash unless it has a greater version. A version is compared as a number, which a double holds exactly up to
 * 2^53; anything but a version, or a hash, is replaced. Fields are overwritten, not deleted first: a server without
 * memory left refuses only the first write of a script, and then the old snapshot stays whole.
 */
const saveScript = makeScript(`
local stored = redis.pcall('hget', KEYS[1], 'version')
if type(stored) == 'table' then
  redis.call('del', KEYS[1])
elseif stored and #stored <= 16 and string.match(stored, '^[1-9]%d*$') then
  local version = tonumber(stored)
  if version <= 9007199254740991 and version > tonumber(ARGV[1]) then return 0 end
end
redis.call('hset', KEYS[1], 'version', ARGV[1], 'lastEventMark', ARGV[2], 'schemaVersion', ARGV[3],
  'keyId', ARGV[4], 'createdAt', ARGV[5], 'checksum', ARGV[6], 'state', ARGV[7])
return 1
`)

/** Exchanges the state of a snapshot that is still the same. */
const replaceScript = makeScript(`
local stored = redis.pcall('hmget', KEYS[1], 'checksum', 'state')
if stored.err or stored[1] ~= ARGV[1] or stored[2] ~= ARGV[2] then return 0 end
redis.call('hset', KEYS[1], 'state', ARGV[3], 'keyId', ARGV[4], 'checksum', ARGV[5])
return 1
`)

/**
 * The port on an open database: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded = (
  options: Pick<StoreOptions, "prefix"> = {}
): Effect.Effect<Encoded.Encoded, InvalidInput, RedisDatabase.RedisDatabase> =>
  Effect.flatMap(RedisDatabase.RedisDatabase, (database) =>
    checked(
      () => prefixOf(fields(options, "options", ["prefix"]).prefix),
      (prefix) => Effect.succeed(onDatabase(database, prefix))
    )
  )

const onDatabase = (database: RedisDatabase.RedisDatabaseShape, prefix: string): Encoded.Encoded => {
  // A prefix has no brace, so the keys of a store are those whose text before the first brace is its prefix.
  const all = `${prefix}{`
  // No snapshot has this key, and no other store: its prefix is the text before the first brace.
  const notes = `${prefix}}`
  const keyOf = ({ aggregateId, domain, tenantId }: StreamId): string =>
    `${all}${part(tenantId)}:${part(domain)}:${aggregateId}}`

  const unlink = (operation: string, keys: ReadonlyArray<string | Buffer>) =>
    database.run({
      operation,
      size: 0,
      // A cluster refuses keys of several slots in one command.
      send: (driver) =>
        isCluster(driver)
          ? Promise.all(keys.map((key) => command("unlink", [key])(driver)))
          : command("unlink", keys)(driver),
      onReply: (reply) => reply
    })

  const streamOf = (key: string): StreamId => {
    const [tenantId = "", domain = "", ...rest] = key.slice(all.length, -1).split(":")
    return { tenantId: decoded(tenantId), domain: decoded(domain), aggregateId: rest.join(":") }
  }

  const addresses = (page: Pages<Buffer, ReadFailure>): Pages<Encoded.EncodedAddress, ReadFailure> =>
    Effect.flatMap(page, ({ items, next }) => {
      const streams = items.map((key) => streamOf(String(key)))
      const rest = next === undefined ? undefined : Effect.suspend(() => addresses(next))
      if (streams.length === 0) return Effect.succeed({ items: [], next: rest })
      return database.run({
        operation: "addresses",
        size: 0,
        // What is no hash is no snapshot, and none's key.
        send: batch(
          streams.map((stream) => (driver) => command("hget", [keyOf(stream), "keyId"])(driver).catch(orNone))
        ),
        onReply: (reply) => ({
          items: (reply as ReadonlyArray<string | null>).map((keyId, i) => ({
            ...(streams[i] as StreamId),
            keyId: keyId === "" ? null : keyId
          })),
          next: rest
        })
      })
    })

  return {
    save: (snapshot) =>
      database.run({
        operation: "save",
        size: snapshot.state.length,
        send: evaluate(
          saveScript,
          [keyOf(snapshot)],
          [
            String(snapshot.version),
            snapshot.lastEventMark,
            snapshot.schemaVersion,
            snapshot.keyId ?? "",
            String(snapshot.createdAt),
            snapshot.checksum,
            snapshot.state
          ]
        ),
        onReply: (reply) => reply === 1
      }),

    latest: (stream, atMost) =>
      database.run({
        operation: "latest",
        size: 0,
        send: (driver) =>
          command("hgetall", [keyOf(stream)])(driver).catch((error) => {
            // The key holds something else, so nothing is left of the snapshot.
            if (replyCode(error) === "WRONGTYPE") return { version: "0" }
            throw error
          }),
        onReply: (reply) => snapshotOf(stream, reply as Readonly<Record<string, string>>, atMost)
      }),

    replace: ({ checksum, keyId, state, was }) =>
      database.run({
        operation: "replace",
        size: was.state.length + state.length,
        send: evaluate(replaceScript, [keyOf(was)], [was.checksum, was.state, state, keyId ?? "", checksum]),
        onReply: (reply) => reply === 1
      }),

    addresses: Effect.suspend(() => addresses(database.pages(all, "addresses"))),

    delete: (stream) => Effect.map(unlink("delete", [keyOf(stream)]), (reply) => [reply].flat()[0] === 1),

    info: Effect.suspend(() => {
      let snapshots = 0
      const count = (keys: ReadonlyArray<Buffer>) =>
        Effect.sync(() => {
          snapshots += keys.length
        })
      return Effect.map(database.scan(all, "info", count), () => ({
        backend: "Redis",
        connection: database.connection,
        snapshots
      }))
    }),

    note: (name, value) =>
      database.run({
        operation: "note",
        size: 0,
        // What is kept once never changes, so two commands are as good as one.
        send: async (driver) => {
          if (value !== null) await command("hsetnx", [notes, name, value])(driver)
          return command("hget", [notes, name])(driver)
        },
        onReply: (reply) => (typeof reply === "string" ? reply : null)
      }),

    reset: database.scan(all, "reset", (keys) => Effect.asVoid(unlink("reset", keys)))
  }
}

/**
 * The aggregate's id comes last, so it may contain anything; before it only these two characters would be ambiguous.
 */
const part = (text: string): string => text.replace(/[%:]/g, encodeURIComponent)

const decoded = (part: string): string => part.replace(/%25|%3A/g, decodeURIComponent)

const orNone = (error: unknown): null => {
  if (replyCode(error) === "WRONGTYPE") return null
  throw error
}

const snapshotOf = (
  stream: StreamId,
  hash: Readonly<Record<string, string>>,
  atMost: number
): Encoded.EncodedSnapshot | null => {
  // The driver returns a missing hash as one without fields.
  if (Object.keys(hash).length === 0) return null
  const { checksum = "", createdAt = "", keyId = "", lastEventMark = "", schemaVersion = "", state = "" } = hash
  const version = Number(hash.version ?? "")
  // A damaged version does not mean that there is no snapshot.
  if (Number.isSafeInteger(version) && version > atMost) return null
  return {
    ...stream,
    version,
    lastEventMark,
    schemaVersion,
    state,
    // No key ends with an empty id.
    keyId: keyId === "" ? null : keyId,
    createdAt: Number(createdAt),
    checksum
  }
}

/**
 * Throws `InvalidInput`.
 *
 * @internal
 */
export const prefixOf = (value: unknown): string => {
  const prefix = value === undefined ? "es:snapshot:" : identifier(value, "prefix")
  return /[{}]/.test(prefix) ? refuse("prefix", "must not contain braces") : prefix
}

const storeKeys: Keys<StoreOptions> = { prefix: true, readOnly: true }

/**
 * The SnapshotStore on an open database, so that stores share its connections.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromDatabase = (
  options: StoreOptions = {}
): Layer.Layer<SnapshotStore, InvalidInput, RedisDatabase.RedisDatabase> =>
  Layer.scoped(
    SnapshotStore,
    Effect.gen(function* () {
      const { prefix, readOnly } = yield* onlyKnown(options, storeKeys)
      const { connection } = yield* RedisDatabase.RedisDatabase
      return yield* Encoded.make(yield* makeEncoded({ prefix }), { system: "redis", connection, readOnly })
    })
  )

/**
 * Opens the database and provides the SnapshotStore on it, with the database for other stores.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = ({
  prefix,
  readOnly,
  ...database
}: Options): Layer.Layer<SnapshotStore | RedisDatabase.RedisDatabase, InvalidInput | StoreFailure> =>
  Layer.unwrapEffect(
    // Before anything is opened.
    Effect.flatMap(onlyKnown({ prefix, readOnly }, storeKeys), (options) =>
      checked(
        () => prefixOf(prefix),
        () =>
          Effect.succeed(
            Layer.provideMerge(
              layerFromDatabase(options),
              RedisDatabase.layer(database, Pool.defaults.snapshotStore.redis, "SnapshotStore")
            )
          )
      )
    )
  )

/**
 * The same from Config. `config` reads the database's options with `RedisDatabase.config`, beside the store's own.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { SnapshotStoreRedis } from "effect-stores/redis"
 *
 * // SNAPSHOTS_URL=redis://localhost:6379
 * const layer = SnapshotStoreRedis.layerConfig(Config.nested(SnapshotStoreRedis.config, "SNAPSHOTS"))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<SnapshotStore | RedisDatabase.RedisDatabase, InvalidInput | StoreFailure | ConfigError> =>
  Layer.unwrapEffect(Effect.map(variables.read(config), layer))

/**
 * Options from the variables of `RedisDatabase.config`, `PREFIX` and `READ_ONLY`.
 *
 * @since 0.1.0
 * @category config
 */
export const config: Config.Config<Options> = Config.zipWith(
  RedisDatabase.config,
  variables.checkedOptions({ prefix: variables.text, readOnly: variables.flag })(({ prefix }) => prefixOf(prefix)),
  (database, store) => ({ ...database, ...store })
)
