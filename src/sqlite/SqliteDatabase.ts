/**
 * A SQLite file opened for the stores and for the user's own SQL: one connection that writes and some that read, in WAL
 * mode. Stores on the same `SqliteDatabase` share its connections and its transactions.
 *
 * @since 0.1.0
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type InvalidInput, type ReadFailure, StoreError, type StoreFailure } from "../Errors.js"
import { onlyKnown } from "../internal/storeOptions.js"
import * as Pool from "../Pool.js"
import { ConnectionPool, OpenFailure, type PoolState } from "../sql/ConnectionPool.js"
import type { InContext } from "../sql/transactions.js"
import { type SqlitePool, type Step, Transactions, use } from "./database/access.js"
import { SqliteConnection } from "./database/connection.js"
import { checkOwner, explained, failure, isBusy, movedAway } from "./database/failures.js"
import { databaseKeys, type Options } from "./database/options.js"
import { checkedSettings } from "./database/settings.js"
import * as Client from "./database/sqlClient.js"
import { type StoreAccess, storeAccess } from "./database/storeAccess.js"

export type { PoolState } from "../sql/ConnectionPool.js"
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
 * Opens the file until the scope closes. If it is moved, deleted or replaced meanwhile, writes fail with `StoreError`,
 * at the latest a second later; what was written in that second is in the moved file. Fails with `InvalidInput` for bad
 * options, with `StoreError` if the path cannot be opened, is not a database, or does not accept the options, and with
 * `PoolTimeout` if other processes keep it locked. `defaults` are the pool's limits where the options give none.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options,
  defaults: Pool.Defaults = Pool.defaults.eventStore.sqlite
): Effect.Effect<SqliteDatabaseShape, InvalidInput | StoreFailure, Scope.Scope> =>
  Effect.gen(function* () {
    const { filename, limits, synchronous } = yield* checkedSettings(yield* onlyKnown(options, databaseKeys), defaults)
    const single = filename === ":memory:" || limits.maxOpenConns === 1

    let file: string | undefined
    const openPool = (role: string, maxOpenConns: number, readonly: boolean): SqlitePool => {
      let openedBefore = false
      return new ConnectionPool<SqliteConnection>(
        `${filename} ${role}`,
        {
          ...limits,
          maxOpenConns,
          maxIdleConns: maxOpenConns,
          connMaxIdleTimeMs: readonly ? limits.connMaxIdleTimeMs : Number.POSITIVE_INFINITY
        },
        {
          open: (done) => {
            let result: SqliteConnection | OpenFailure
            try {
              if (filename !== ":memory:") checkOwner(filename)
              const connection = SqliteConnection.open({ filename, synchronous, readonly })
              file ??= connection.file
              if (connection.file !== file) {
                connection.close()
                throw movedAway(filename)
              }
              result = connection
              openedBefore = true
            } catch (error) {
              const operation = `opening ${filename}`
              // On the first open, a path that cannot be opened is a mistake; later it is a transient shortage.
              const cause = failure(operation, error)
              const typed =
                openedBefore && cause._tag === "StoreUnavailable"
                  ? cause
                  : new StoreError({ operation, cause: explained(filename, error) })
              result = new OpenFailure(typed, isBusy(error))
            }
            done(result)
          },
          close: (connection) => connection.close(),
          usable: (connection) => !connection.broken && connection.db.open
        }
      )
    }

    const acquirePool = (role: string, maxOpenConns: number, readonly: boolean) =>
      Effect.acquireRelease(
        Effect.sync(() => openPool(role, maxOpenConns, readonly)),
        (pool) => pool.shutdown
      )

    // Readers are closed first, so that the writer closes last and checkpoints the log.
    const writer = yield* acquirePool("writer", 1, false)
    const readers = single ? writer : yield* acquirePool("readers", limits.maxOpenConns - 1, true)
    yield* Effect.scoped(writer.acquire)

    const writes = new Transactions(writer)
    const reads = single ? writes : new Transactions(readers)
    const reactivity = yield* Reactivity.make

    const sql = Client.make({
      transactions: writes,
      current: (fiber) => writes.current(fiber),
      reactivity,
      streaming: single ? undefined : readers
    })

    const transaction = <A, E, R>(self: Effect.Effect<A, E, R>) => writes.run(self, identity)
    const currentRead = (fiber: InContext) => writes.current(fiber) ?? reads.current(fiber)

    return {
      filename,
      transaction,
      sql,
      reader: single ? sql : Client.make({ transactions: reads, current: currentRead, reactivity, streaming: readers }),
      state: Effect.sync(() => ({ writer: writer.state, readers: readers.state })),
      [storeAccess]: {
        connection: filename,
        transaction,
        inTransaction: (fiber) => writes.current(fiber) !== undefined,
        write: <A>(operation: string, step: Step<A>, committed?: (value: A) => void) =>
          Effect.withFiberRuntime<A, StoreFailure>((fiber) => {
            const transaction = writes.current(fiber)
            if (transaction === undefined) {
              return use(writer, operation, (connection) => {
                const value = step(connection)
                committed?.(value)
                return value
              })
            }
            return transaction.use(operation, (connection) => {
              const value = step(connection)
              if (committed !== undefined) transaction.onCommit(() => committed(value))
              return value
            })
          }),
        read: <A>(operation: string, step: Step<A>) =>
          Effect.withFiberRuntime<A, ReadFailure>((fiber) => {
            const transaction = currentRead(fiber)
            const found = transaction === undefined ? use(readers, operation, step) : transaction.use(operation, step)
            // A step that only reads has nothing to commit.
            return found as Effect.Effect<A, ReadFailure>
          })
      }
    }
  })

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
    Effect.flatMap(Config.unwrap(config), (options) => make(options))
  )
