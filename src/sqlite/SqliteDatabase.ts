/**
 * A SQLite file opened for the stores and for the user's own SQL: one connection that writes and some that read, in WAL
 * mode. Stores on the same `SqliteDatabase` share its connections and its transactions.
 *
 * @since 0.1.0
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import type { Health } from "../Health.js"
import * as variables from "../internal/config.js"
import { onlyKnown } from "../internal/storeOptions.js"
import * as Pool from "../Pool.js"
import type { PoolState } from "../sql/ConnectionPool.js"
import * as onClient from "./client/access.js"
import { type StoreAccess, storeAccess } from "./database/access.js"
import { OpenFile } from "./database/OpenFile.js"
import { databaseKeys, type Options, synchronousLevels } from "./database/options.js"
import { checkedSettings, located } from "./database/settings.js"
import * as Client from "./database/sqlClient.js"

export type { PoolState } from "../sql/ConnectionPool.js"
export type { NameOptions } from "./database/names.js"
export type { Options, Synchronous } from "./database/options.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface SqliteDatabaseShape {
  readonly filename: string

  /**
   * Runs the effect in a transaction that can write. Everything that its fibers do on this database meanwhile, through
   * stores or `sql`, belongs to it and sees its writes.
   *
   * Waiting for the writer, and for other processes, can be interrupted and ends with `PoolTimeout` after the pool's
   * `acquireTimeout`. The transaction is immediate: once it has begun nobody else writes, so keep it short. A failure
   * or an interrupt of the effect rolls back, and remains the cause; a failure of COMMIT is typed: `StoreError` for a
   * deferred constraint, `CommitOutcomeUnknown` when the disk failed. Inside another transaction it is a savepoint: its
   * failure, when caught, undoes only its own writes. Wait for forked fibers before the outer transaction ends: what
   * they do later happens outside it, and if one is still in a nested transaction, COMMIT fails with `StoreError`.
   */
  readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | StoreFailure, R>

  /**
   * The user's own SQL, on the connection that writes. `withTransaction` is `transaction`, with its failures as the
   * `cause` of an `SqlError`. `.stream` reads rows chunk by chunk and holds a reading connection until it ends. With
   * `maxOpenConns` 2 that is the only one, and other reads wait for it, up to `acquireTimeout`. In a transaction, or
   * when there is only one connection, rows are collected first.
   */
  readonly sql: SqlClient.SqlClient

  /**
   * The user's own SQL on the connections that read, which refuse to write. Its `withTransaction` holds one of them
   * and sees one state of the database throughout, and so do store reads inside; it delays no writer. With only one
   * connection (`maxOpenConns` 1, `":memory:"`) this is `sql`.
   */
  readonly reader: SqlClient.SqlClient

  /** The pools at this moment. With only one connection both are the same. */
  readonly state: Effect.Effect<{ readonly writer: PoolState; readonly readers: PoolState }>

  /**
   * Whether the file is in place and can be read, without waiting for a connection. If the one that writes is in use,
   * or all that read are, it is `busy` and not `down`. A lock of another process does not show.
   */
  readonly health: Effect.Effect<Health>

  /** @internal */
  readonly [storeAccess]: StoreAccess
}

/**
 * @since 0.1.0
 * @category tags
 */
export class SqliteDatabase extends Context.Tag("effect-stores/SqliteDatabase")<
  SqliteDatabase,
  SqliteDatabaseShape
>() {}

/**
 * Opens the file until the scope closes. A process opens a file once, whatever it is called: all who open it share its
 * connections and its transactions, and the last to close closes it. They must agree on `synchronous` and on those
 * options of the pool that they give, or `InvalidInput` names the option; what one does not give is as the others have
 * it. A database in memory is shared with nobody.
 *
 * If the file is moved, deleted or replaced meanwhile, writes fail with `StoreError`, at the latest a second later;
 * what was written in that second is in the moved file. Fails with `InvalidInput` for bad options and for a folder
 * that does not exist, with `StoreError` if the path cannot be opened, is not a database, or does not accept the
 * options, and with `PoolTimeout` if other processes keep it locked. `defaults` are the pool's limits where nobody
 * gives an option.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options,
  defaults: Pool.Defaults = Pool.defaults.eventStore.sqlite
): Effect.Effect<SqliteDatabaseShape, InvalidInput | StoreFailure, Scope.Scope> =>
  Effect.gen(function* () {
    const settings = yield* checkedSettings(yield* onlyKnown(options, databaseKeys), defaults)
    const file = yield* OpenFile.join(settings, yield* Reactivity.make)
    const { access, reactivity, reads, single, writes } = file

    const sql = Client.make({
      transactions: writes,
      current: (fiber) => writes.current(fiber),
      reactivity,
      streaming: single ? undefined : reads.pool
    })
    return {
      filename: settings.filename,
      transaction: access.transaction,
      sql,
      reader: single
        ? sql
        : Client.make({
            transactions: reads,
            current: (fiber) => file.currentRead(fiber),
            reactivity,
            streaming: reads.pool
          }),
      state: Effect.sync(() => ({ writer: file.writes.pool.state, readers: file.reads.pool.state })),
      health: file.health,
      [storeAccess]: access
    }
  })

/**
 * The database on a `SqliteClient` of @effect/sql-sqlite-node that the application has, so that one connection serves
 * both: what the stores do inside the client's `sql.withTransaction` belongs to it, and so does what the client does
 * inside `transaction`. Warns if an acknowledged append may not survive a power cut: run `pragma synchronous = full` on
 * the client to change that.
 *
 * What is weaker than on a database of its own:
 *
 * - A COMMIT that fails is a typed failure of `transaction`, as ever. Of `sql.withTransaction` it is a defect, and the
 *   client leaves the transaction open; the next operation of a store ends it.
 * - `sql.withTransaction` is deferred: one that reads before it writes fails as retryable (`StoreUnavailable`) when
 *   another process has written in between. `transaction` is immediate, as ever.
 * - Nothing is retried while another process has the file locked: SQLite waits for up to 5 seconds, and the event loop
 *   with it.
 * - There is one connection for all, and waiting for it has no bound but the caller's: there is no `PoolTimeout`. Pages
 *   are read as a whole.
 * - Inner transactions are the client's savepoints: one after the other, not at the same time.
 * - A fiber that outlives its transaction is still in it, or in the next one: wait for the fibers that are forked in
 *   one before it ends.
 * - A file that is moved away while it is open is not noticed. Do not open it by `layer` as well: the two would wait
 *   for each other's locks.
 * - An append in a transaction wakes subscribers too early, so that they find it when they poll.
 *
 * `reader` is `sql`, and `state` tells of the one connection what the stores do with it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromClient = (client: SqlClient.SqlClient): Effect.Effect<SqliteDatabaseShape, StoreFailure> =>
  Effect.gen(function* () {
    const { access, health, state } = yield* onClient.make(client)
    const level = yield* access.read("opening", (connection) => connection.prepare("PRAGMA synchronous").get())
    const filename = access.connection
    if (filename !== ":memory:" && Number((level as ReadonlyArray<unknown>)[0]) < synchronousLevels.indexOf("FULL")) {
      yield* Effect.logWarning(`${filename} is not synchronous = FULL: the last events may be lost in a power cut`)
    }
    return {
      filename,
      transaction: access.transaction,
      sql: client,
      reader: client,
      state: Effect.map(state, (one) => ({ writer: one, readers: one })),
      health,
      [storeAccess]: access
    }
  })

/**
 * The same as a layer, on the application's `SqlClient`, which must be that of `SqliteClient.layer`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromClient: Layer.Layer<SqliteDatabase, StoreFailure, SqlClient.SqlClient> = Layer.effect(
  SqliteDatabase,
  Effect.flatMap(SqlClient.SqlClient, fromClient)
)

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<SqliteDatabase, InvalidInput | StoreFailure> =>
  Layer.scoped(SqliteDatabase, make(options))

/**
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<SqliteDatabase, InvalidInput | StoreFailure | ConfigError> =>
  Layer.scoped(
    SqliteDatabase,
    Effect.flatMap(variables.read(config), (options) => make(options))
  )

/**
 * The database's `sql` as the `SqlClient` of @effect/sql, for repositories, resolvers and migrations that name no
 * backend. What they do in a transaction of the database belongs to it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerSqlClient: Layer.Layer<SqlClient.SqlClient, never, SqliteDatabase> = Layer.effect(
  SqlClient.SqlClient,
  Effect.map(SqliteDatabase, ({ sql }) => sql)
)

/**
 * Options from the variables `FILENAME`, which must be given, `SYNCHRONOUS` and `GROUP_COMMIT`, and those of
 * `Pool.sqliteConfig` nested as `POOL`.
 *
 * @since 0.1.0
 * @category config
 */
export const config: Config.Config<Options> = variables.checkedOptions(
  {
    filename: variables.text,
    synchronous: variables.oneOf(synchronousLevels),
    groupCommit: variables.flag,
    pool: variables.nested(Pool.sqliteConfig)
  },
  "filename"
)(({ filename }) => located(filename))
