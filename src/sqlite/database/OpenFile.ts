/**
 * The files that this process has open, each of them once: two databases on one file would wait for each other's locks,
 * and could not share a transaction. What opens a file that is open already joins it, and the last to leave closes it.
 */
import type * as Reactivity from "@effect/experimental/Reactivity"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type InvalidInput, type ReadFailure, StoreError, type StoreFailure } from "../../Errors.js"
import * as Health from "../../Health.js"
import { PoolMeter } from "../../internal/telemetry.js"
import { checked, refuse } from "../../internal/validate.js"
import { ConnectionPool, OpenFailure } from "../../sql/ConnectionPool.js"
import type { InContext } from "../../sql/transactions.js"
import { accessTo, type StoreAccess, Transactions } from "./access.js"
import { identityOf, placeOf, SqliteConnection } from "./connection.js"
import { checkOwner, explained, failure, isBusy, movedAway } from "./failures.js"
import { limitOf, type PoolOption, type Settings } from "./settings.js"
import { GroupCommit, type SqlitePool, use } from "./steps.js"

const inMemory = ":memory:"

const cure =
  "another layer of this process has the file open with that, and they share its connections: " +
  "give both the same, or put the stores on one SqliteDatabase.layer with layerFromDatabase"

/** False if another process has it locked. */
const isReadable = (connection: SqliteConnection): boolean => {
  try {
    connection.prepare("SELECT count(*) FROM sqlite_schema").get()
    return true
  } catch (error) {
    if (isBusy(error)) return false
    throw error
  }
}

const hasFree = ({ limits, state: { idle, open } }: SqlitePool): boolean => idle > 0 || open < limits.maxOpenConns

export class OpenFile {
  private static readonly all = new Set<OpenFile>()

  readonly writer: SqlitePool
  readonly writes: Transactions
  /** The connections that read; absent while there is only one connection. */
  private reading: Transactions | undefined
  readonly access: StoreAccess
  private readonly given = new Set<PoolOption>()
  private users = 0
  /** The system's identity of the file, once it was opened. */
  private file: string | undefined

  /**
   * 1. Finds the file among those that are open, or adds it; no other fiber runs in between.
   * 2. Opens the connection that writes, unless that was done. What fails here fails only this caller: others who wait
   *    for the same try again themselves.
   * 3. Leaves when the scope closes, and at once when step 2 fails or is interrupted.
   */
  static readonly join = (
    settings: Settings,
    reactivity: Reactivity.Reactivity.Service
  ): Effect.Effect<OpenFile, InvalidInput | StoreFailure, Scope.Scope> =>
    Effect.uninterruptibleMask((restore) =>
      checked(
        () => OpenFile.enter(settings, reactivity),
        (found) =>
          restore(found.open).pipe(
            Effect.onError(() => found.leave),
            Effect.zipRight(Effect.addFinalizer(() => found.leave)),
            Effect.as(found)
          )
      )
    )

  private static enter(settings: Settings, reactivity: Reactivity.Reactivity.Service): OpenFile {
    let found = settings.filename === inMemory ? undefined : OpenFile.at(settings.filename)
    if (found === undefined) {
      found = new OpenFile(settings, reactivity)
      OpenFile.all.add(found)
    } else found.agree(settings)
    found.users++
    for (const option of settings.given) found.given.add(option)
    return found
  }

  /** Whether the name is another one of the same file does not count; a file that was moved away is another. */
  private static at(filename: string): OpenFile | undefined {
    const place = placeOf(filename)
    for (const open of OpenFile.all) {
      if (open.settings.filename === inMemory) continue
      if (open.file === undefined ? placeOf(open.settings.filename) === place : open.file === place && open.inPlace)
        return open
    }
    return undefined
  }

  private constructor(
    private readonly settings: Settings,
    readonly reactivity: Reactivity.Reactivity.Service
  ) {
    this.writer = this.pool("writer", 1, false)
    this.writes = new Transactions(this.writer, settings.filename)
    this.growTo(settings.limits.maxOpenConns)
    const group = (settings.groupCommit ?? true) ? new GroupCommit(this.writer) : undefined
    this.access = accessTo(settings.filename, this.writes, () => this.reads, group)
  }

  /** Whether one connection reads and writes. */
  get single(): boolean {
    return this.reading === undefined
  }

  get reads(): Transactions {
    return this.reading ?? this.writes
  }

  currentRead(fiber: InContext) {
    return this.writes.current(fiber) ?? this.reading?.current(fiber)
  }

  private get inPlace(): boolean {
    return identityOf(this.settings.filename) === this.file
  }

  private readonly open: Effect.Effect<void, StoreFailure> = Effect.suspend(() =>
    this.file === undefined ? Effect.asVoid(Effect.scoped(this.writer.acquire)) : Effect.void
  )

  readonly health: Effect.Effect<Health.Health> = Health.make(
    Effect.suspend((): Effect.Effect<"up" | "busy", ReadFailure> => {
      const { filename } = this.settings
      if (filename !== inMemory && !this.inPlace)
        return Effect.fail(failure("health", movedAway(filename)) as ReadFailure)
      const reads = this.reads.pool
      // Those who use a connection now find out by themselves whether the file can be read.
      if (!hasFree(reads)) return Effect.succeed("busy")
      const free = hasFree(this.writer)
      // One that reads has nothing to commit.
      return use(reads, "health", (connection) => (isReadable(connection) && free ? "up" : "busy")) as Effect.Effect<
        "up" | "busy",
        ReadFailure
      >
    })
  )

  private readonly leave: Effect.Effect<void> = Effect.suspend(() => {
    this.users--
    if (this.users > 0) return Effect.void
    // Before anything is closed, so that nobody joins what is at its end.
    OpenFile.all.delete(this)
    // Readers are closed first, so that the writer closes last and checkpoints the log.
    return Effect.zipRight(this.reading?.pool.shutdown ?? Effect.void, this.writer.shutdown)
  })

  /**
   * Throws if the file is open with something else than these settings ask for. Options of the pool that they do not
   * give are those of the others. A single connection that nobody asked for does not bind who wants more.
   */
  private agree({ given, groupCommit, limits, synchronous }: Settings): void {
    this.same("synchronous", synchronous, this.settings.synchronous)
    if (groupCommit !== undefined) this.same("groupCommit", groupCommit, this.settings.groupCommit ?? true)
    const same = (option: PoolOption) =>
      this.same(`pool.${option}`, limitOf(limits, option), limitOf(this.limits, option))
    for (const option of given) if (option !== "maxOpenConns") same(option)
    // Last, since whoever is refused must not have changed anything.
    if (!this.given.has("maxOpenConns")) this.growTo(limits.maxOpenConns)
    if (given.has("maxOpenConns")) same("maxOpenConns")
  }

  private same(what: string, asked: unknown, own: unknown): void {
    if (asked !== own) refuse(what, `must be ${own}, not ${asked}: ${cure}`)
  }

  private get limits() {
    const { limits } = this.settings
    return { ...limits, maxOpenConns: this.single ? 1 : (this.reading as Transactions).pool.limits.maxOpenConns + 1 }
  }

  private growTo(maxOpenConns: number): void {
    if (this.settings.filename === inMemory || !this.single || maxOpenConns === 1) return
    this.reading = new Transactions(this.pool("readers", maxOpenConns - 1, true), this.settings.filename)
  }

  private pool(role: string, maxOpenConns: number, readonly: boolean): SqlitePool {
    const { filename, limits, synchronous } = this.settings
    let openedBefore = false
    const open = (done: (result: SqliteConnection | OpenFailure) => void): void => {
      let result: SqliteConnection | OpenFailure
      try {
        if (filename !== inMemory) checkOwner(filename)
        const connection = SqliteConnection.open({ filename, synchronous, readonly })
        this.file ??= connection.file
        if (connection.file !== this.file) {
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
    }
    return new ConnectionPool<SqliteConnection>(
      `${filename} ${role}`,
      {
        ...limits,
        maxOpenConns,
        maxIdleConns: maxOpenConns,
        connMaxIdleTimeMs: readonly ? limits.connMaxIdleTimeMs : Number.POSITIVE_INFINITY
      },
      {
        open,
        close: (connection) => connection.close(),
        usable: SqliteConnection.isUsable
      },
      new PoolMeter(`sqlite.${role}`, filename)
    )
  }
}
