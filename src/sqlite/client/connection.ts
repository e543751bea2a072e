/**
 * The connection of an application's own `SqliteClient`, as the steps of the stores use one. Its effects are
 * synchronous, so a step runs to its end without yielding, as on a connection of a `SqliteDatabase`.
 */
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import type Sqlite from "better-sqlite3"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { commitFailure, type StepConnection } from "../database/connection.js"

const savepoint = "effect_stores"

/** Throws what the driver has thrown. */
const now = <A>(self: Effect.Effect<A, SqlError>): A =>
  Exit.getOrElse(Effect.runSyncExit(Effect.mapError(self, ({ cause }) => cause)), (cause) => {
    throw Cause.squash(cause)
  })

/** What the driver says of a text that goes on behind its semicolon, or has only a comment so far. */
const goesOn = (error: unknown): boolean =>
  error instanceof Error && /^incomplete input$|contains no statements/.test(error.message)

export class ClientConnection implements StepConnection {
  constructor(
    private readonly connection: Connection,
    public inTransaction: boolean
  ) {}

  prepare(text: string): ReturnType<StepConnection["prepare"]> {
    const all = (...params: ReadonlyArray<unknown>): Array<unknown> => [
      ...now(this.connection.executeValues(text, params))
    ]
    return {
      all,
      get: (...params) => all(...params)[0],
      iterate: (...params) => all(...params).values(),
      run: (...params) => now(this.connection.executeRaw(text, params)) as Sqlite.RunResult
    }
  }

  atomically<A>(operation: string, body: () => A): A {
    if (!this.inTransaction) return this.within("BEGIN IMMEDIATE", operation, body)
    this.run(`SAVEPOINT ${savepoint}`)
    try {
      const value = body()
      this.run(`RELEASE ${savepoint}`)
      return value
    } catch (error) {
      this.undo(`ROLLBACK TO ${savepoint}`, `RELEASE ${savepoint}`)
      throw error
    }
  }

  consistently<A>(body: () => A): A {
    return this.inTransaction ? body() : this.within("BEGIN", "reading", body)
  }

  /** The client prepares one statement at a time: the script is cut where what is before it is whole. */
  execute(script: string): void {
    let text = ""
    for (const part of script.split(";")) {
      text += part
      if (text.trim() === "") continue
      try {
        this.run(text)
        text = ""
      } catch (error) {
        if (!goesOn(error)) throw error
        text += ";"
      }
    }
    if (text.replaceAll(/--.*$/gm, "").trim() !== "") throw new Error(`a statement is not whole: ${text}`)
  }

  pragma(text: string): void {
    now(this.connection.executeValues(`PRAGMA ${text}`, []))
  }

  /**
   * Ends a transaction that nobody is in. A COMMIT of the client that failed leaves it open, and what is written in it
   * would never be committed.
   */
  endLeftOver(): void {
    try {
      this.run("BEGIN")
    } catch {
      // There is one.
    }
    this.run("ROLLBACK")
  }

  private within<A>(begin: string, operation: string, body: () => A): A {
    this.run(begin)
    this.inTransaction = true
    try {
      const value = body()
      try {
        this.run("COMMIT")
      } catch (error) {
        throw commitFailure(operation, error)
      }
      return value
    } catch (error) {
      this.undo("ROLLBACK")
      throw error
    } finally {
      this.inTransaction = false
    }
  }

  /** Some failures (a full disk) have ended the transaction already. */
  private undo(...texts: ReadonlyArray<string>): void {
    try {
      for (const text of texts) this.run(text)
    } catch {
      // What failed first is thrown.
    }
  }

  private run(text: string): void {
    now(this.connection.executeRaw(text, []))
  }
}
