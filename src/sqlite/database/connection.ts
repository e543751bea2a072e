/**
 * One open connection to a SQLite file: how it is opened and checked, its prepared statements, its transactions, and
 * what its errors mean. Everything here is synchronous and throws; access.ts decides who may use a connection.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { CommitOutcomeUnknown } from "../../Errors.js"
import { codeOf, isDiskFailure, movedAway } from "./failures.js"
import { type Synchronous, synchronousLevels } from "./options.js"

export interface ConnectionOptions {
  readonly filename: string
  readonly synchronous: Synchronous
  readonly readonly: boolean
}

/** What a statement returns: objects, arrays, or the driver's own result for a statement without rows. */
export type Mode = "objects" | "arrays" | "raw"

export type Statement = Sqlite.Statement<Array<unknown>>

/** What a step of a store does on a connection. */
export interface StepConnection {
  readonly inTransaction: boolean
  /** Rows are arrays, integers are numbers. */
  readonly prepare: (text: string) => Pick<Statement, "all" | "get" | "iterate" | "run">
  /** All of `body` or nothing: an immediate transaction, or a savepoint in the open one. */
  readonly atomically: <A>(operation: string, body: () => A) => A
  /** What `body` reads is all of one state. */
  readonly consistently: <A>(body: () => A) => A
  /** Several statements. */
  readonly execute: (script: string) => void
  readonly pragma: (text: string) => void
}

/**
 * What a failed COMMIT means, of a statement of its own or implied by a statement outside a transaction. When a sync
 * fails, the commit record may be in the file, and recovery would find it. A full disk cuts it short.
 */
export const commitFailure = (operation: string, error: unknown): unknown =>
  codeOf(error).startsWith("SQLITE_IOERR") ? new CommitOutcomeUnknown({ operation, cause: error }) : error

/** Prepared statements kept per connection; an EventStore has about twenty shapes in use. */
const statementsMax = 256

const savepointName = "effect_stores"

/** How often a connection that writes checks whether its file is still in place. A check takes 3 µs. */
const fileCheckMs = 1_000

export class SqliteConnection implements StepConnection {
  /** It must not be used again. */
  broken = false

  static readonly isUsable = (connection: SqliteConnection): boolean => !connection.broken && connection.db.open
  private readonly own: Statements
  private readonly users: Statements
  private readonly beginImmediate: Statement
  private readonly commitText: Statement
  private fileCheckedAt = performance.now()

  private constructor(
    readonly db: Sqlite.Database,
    private readonly options: ConnectionOptions,
    private readonly path: string,
    /** The system's identity of the open file; undefined for a database in memory. */
    readonly file: string | undefined
  ) {
    this.own = new Statements(db)
    this.users = new Statements(db)
    this.beginImmediate = db.prepare("BEGIN IMMEDIATE")
    this.commitText = db.prepare("COMMIT")
  }

  /** Throws busy when another process is just setting the file up. */
  static open(options: ConnectionOptions): SqliteConnection {
    // Zero: waiting inside SQLite would block the event loop. A caller that finds the file busy retries later.
    const db = new Sqlite(options.filename, { timeout: 0, readonly: options.readonly })
    try {
      if (!options.readonly) {
        const mode = db.pragma("journal_mode = WAL", { simple: true })
        if (mode !== "wal" && !db.memory) throw new Error(`the journal mode is ${mode} and could not be set to wal`)
      }
      // A new file starts with FULL, but when it is opened again the build's default is NORMAL, so it is set every
      // time.
      db.pragma(`synchronous = ${options.synchronous}`)
      const level = Number(db.pragma("synchronous", { simple: true }))
      if (synchronousLevels[level] !== options.synchronous) {
        throw new Error(`synchronous is ${synchronousLevels[level]} and could not be set to ${options.synchronous}`)
      }
      db.pragma("foreign_keys = ON")
      const file = path.resolve(options.filename)
      return new SqliteConnection(db, options, file, db.memory ? undefined : identityOf(file))
    } catch (error) {
      db.close()
      throw error
    }
  }

  /**
   * Throws if the path no longer leads to the open file. The system keeps a deleted file for as long as a process has
   * it open, and what is written there is lost with the last of them. SQLite checks this in the same way, but only
   * without a WAL.
   */
  checkFile(): void {
    if (this.options.readonly || this.file === undefined) return
    const now = performance.now()
    if (now - this.fileCheckedAt < fileCheckMs) return
    if (identityOf(this.path) !== this.file) throw movedAway(this.path)
    this.fileCheckedAt = now
  }

  get inTransaction(): boolean {
    return this.db.inTransaction
  }

  prepare(text: string): Statement {
    return this.own.get(text, (statement) => {
      if (statement.reader) statement.raw(true)
    })
  }

  /** Runs a statement of the user. */
  query(text: string, params: ReadonlyArray<unknown>, mode: Mode, safeIntegers: boolean): unknown {
    const statement = this.users.get(text)
    // Both settings stay with the statement, and the next caller with the same text gets that statement.
    statement.safeIntegers(safeIntegers)
    if (statement.reader) return statement.raw(mode === "arrays").all(...params)
    const result = statement.run(...params)
    return mode === "raw" ? result : []
  }

  /** Rows one by one. The connection can do nothing else until the iterator is done or returned. */
  iterate(text: string, params: ReadonlyArray<unknown>, safeIntegers: boolean): IterableIterator<unknown> {
    // Not from the cache: others cannot run a statement that is being iterated.
    return this.db
      .prepare<Array<unknown>>(text)
      .safeIntegers(safeIntegers)
      .iterate(...params)
  }

  consistently<A>(body: () => A): A {
    return this.db.transaction(body)()
  }

  execute(script: string): void {
    this.db.exec(script)
  }

  pragma(text: string): void {
    this.db.pragma(text)
  }

  atomically<A>(operation: string, body: () => A): A {
    const nested = this.db.inTransaction
    if (nested) this.savepoint(savepointName)
    else this.beginImmediate.run()
    let value: A
    try {
      value = body()
      if (nested) this.releaseSavepoint(savepointName)
    } catch (error) {
      if (nested) this.rollbackTo(savepointName)
      else this.rollback()
      throw error
    }
    if (!nested) {
      try {
        this.commit(operation)
      } catch (error) {
        this.rollback()
        throw error
      }
    }
    return value
  }

  begin(): void {
    if (!this.options.readonly) {
      this.beginImmediate.run()
      return
    }
    this.prepare("BEGIN").run()
    // BEGIN alone takes no snapshot; the first read does.
    this.prepare("SELECT count(*) FROM sqlite_schema").get()
  }

  /** If it throws, the transaction may still be open. */
  commit(operation: string): void {
    try {
      this.commitText.run()
    } catch (error) {
      throw commitFailure(operation, error)
    }
  }

  /** Afterwards no transaction is open, or the connection is marked broken. */
  rollback(): void {
    try {
      if (this.db.inTransaction) this.prepare("ROLLBACK").run()
    } catch {
      // Whatever prevented the rollback, closing the connection rolls back.
      this.broken = true
    }
  }

  savepoint(name: string): void {
    this.prepare(`SAVEPOINT ${name}`).run()
  }

  releaseSavepoint(name: string): void {
    this.prepare(`RELEASE ${name}`).run()
  }

  rollbackTo(name: string): void {
    // Some failures (a full disk) end the whole transaction.
    if (!this.db.inTransaction) return
    try {
      this.prepare(`ROLLBACK TO ${name}`).run()
      this.prepare(`RELEASE ${name}`).run()
    } catch {
      this.rollback()
    }
  }

  /**
   * After a disk failure, nothing that the connection holds in memory can be trusted; a new one reads the file again.
   */
  noteFailure(error: unknown): void {
    // Closing a database in memory would lose it.
    if (!this.db.memory && isDiskFailure(error)) this.broken = true
  }

  close(): void {
    try {
      this.db.close()
    } catch {
      // Only an iterator still in use can prevent it, and its fiber is being shut down as well.
    }
  }
}

/** As bigint, because the inode numbers of some file systems do not fit a double. */
export const identityOf = (file: string): string | undefined => {
  const stats = fs.statSync(file, { bigint: true, throwIfNoEntry: false })
  return stats === undefined ? undefined : `${stats.dev}:${stats.ino}`
}

/** The identity of a file, or where it would be created. */
export const placeOf = (file: string): string => {
  try {
    return identityOf(file) ?? `${identityOf(path.dirname(file))} ${path.basename(file)}`
  } catch {
    // Opening it fails as well, and says why.
    return file
  }
}

/** The least recently used is removed first. */
class Statements {
  private readonly byText = new Map<string, Statement>()

  constructor(private readonly db: Sqlite.Database) {}

  get(text: string, prepared?: (statement: Statement) => void): Statement {
    let statement = this.byText.get(text)
    if (statement === undefined) {
      statement = this.db.prepare<Array<unknown>>(text)
      prepared?.(statement)
      if (this.byText.size >= statementsMax) {
        for (const oldest of this.byText.keys()) {
          this.byText.delete(oldest)
          break
        }
      }
    } else {
      this.byText.delete(text)
    }
    this.byText.set(text, statement)
    return statement
  }
}
