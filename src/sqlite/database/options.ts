/**
 * The options of a SQLite database, and their keys: others are refused.
 */
import type { Keys } from "../../internal/storeOptions.js"
import type * as Pool from "../../Pool.js"

/**
 * How durably a commit is written to disk before it is acknowledged. The file is in WAL mode, so only `OFF` risks its
 * consistency.
 *
 * - `FULL`: every commit is synced. An acknowledged commit survives a killed process, a crash of the system and a power
 *   cut (on disks that keep what they have synced).
 * - `NORMAL`: synced at checkpoints only. Survives a killed process; a crash of the system or a power cut may lose the
 *   last acknowledged commits, never the consistency of the file.
 * - `EXTRA`: in WAL mode the same as `FULL`.
 * - `OFF`: nothing is synced. Survives a killed process; a crash of the system or a power cut may corrupt the file. For
 *   tests and for data that can be made again.
 *
 * @since 0.1.0
 * @category models
 */
export type Synchronous = "OFF" | "NORMAL" | "FULL" | "EXTRA"

/** In the order of the numbers that the pragma returns. */
export const synchronousLevels: ReadonlyArray<Synchronous> = ["OFF", "NORMAL", "FULL", "EXTRA"]

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * A path, not a URI, or `":memory:"` for a database that ends with its layer. A relative path is resolved when the
   * layer opens. Layers of one file in a process share one database: see `SqliteDatabase.make`.
   *
   * The directory must be writable even to read, unless another process has the file open: SQLite keeps two more files
   * there, `-wal` and `-shm`. A file of another user is refused if opening it would leave such files that its owner
   * cannot use. A store with `readOnly` opens the connection that writes as well: the last one to close removes those
   * two files, and a connection that only reads would leave them behind. Where it may not write it reads all the same.
   */
  readonly filename: string
  /** Set and checked whenever a connection is opened. Default `"FULL"`. */
  readonly synchronous?: Synchronous | undefined
  /**
   * Whether writes of the stores that wait for the connection at the same time share a transaction, each with an
   * outcome of its own. Default true.
   */
  readonly groupCommit?: boolean | undefined
  readonly pool?: Pool.SqlitePoolOptions | undefined
}

export const databaseKeys: Keys<Options> = { filename: true, synchronous: true, groupCommit: true, pool: true }
