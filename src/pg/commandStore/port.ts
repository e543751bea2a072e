/**
 * The CommandStore's port on PostgreSQL. Every step that writes is one statement.
 */
import * as Effect from "effect/Effect"
import Pg from "pg"
import type { CreateOutcome, Encoded } from "../../commandStore/CommandStoreEncoded.js"
import { StoreError, type StoreFailure } from "../../Errors.js"
import { executing } from "../../sql/transactions.js"
import type { Statement, StoreAccess } from "../database/access.js"
import type { Names } from "../database/names.js"
import { note } from "../database/notes.js"
import { valuesOf } from "../database/pages.js"
import { behind } from "../database/schema/positions.js"
import { positions } from "./schema.js"
import * as statements from "./statements.js"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const sql = statements.make(names)
  const changedOne = (statement: Statement<number>) => Effect.map(database.run(statement), (rows) => rows > 0)
  const sharingOne = (statement: Statement<number>) => Effect.map(database.writeGrouped(statement), (rows) => rows > 0)

  /** Reads the existing command in a second statement, since it may have been committed while the first one waited. */
  const create: Encoded["create"] = (command, lease) =>
    Effect.flatMap(Effect.mapError(database.writeGrouped(sql.insert(command, lease)), explained(names)), (created) =>
      created !== null
        ? Effect.succeed<CreateOutcome>({ _tag: "Created", command: created })
        : Effect.flatMap(database.run(sql.existing(command.id)), (existing) =>
            // Deleted in between, so the id is free again.
            existing === null ? create(command, lease) : Effect.succeed<CreateOutcome>({ _tag: "Exists", ...existing })
          )
    )

  return {
    create,
    takeOver: (request) => changedOne(sql.takeOver(request)),
    renew: (request) => changedOne(sql.renew(request)),
    finish: (request) => sharingOne(sql.finish(request)),
    close: (request) => changedOne(sql.close(request)),
    open: (request) => database.run(sql.open(request)),
    postpone: (request) => changedOne(sql.postpone(request)),
    get: (id) => database.run(sql.get(id)),
    list: (request) => database.run(sql.list(request)),
    distinct: (request) => Effect.flatMap(database.run(sql.distinct(request)), (rows) => valuesOf(rows)),
    count: (filter) => database.run(sql.count(filter)),
    info: Effect.map(database.run(sql.info), (found) => ({
      backend: "Pg",
      connection: database.connection,
      ...found
    })),
    update: (request) => changedOne(sql.update(request)),
    replace: (request) => changedOne(sql.replace(request)),
    delete: (id) => changedOne(sql.delete(id)),
    prune: (filter, limit) => database.run(sql.prune(filter, limit)),
    reset: database.run(sql.reset),
    note: (name, value) => database.run(note(names, "CommandStore", name, value)),
    transaction: (self) => database.transaction(executing(database, "PgDatabase", self))
  }
}

/** A position that is taken was drawn again. */
const explained =
  (names: Names) =>
  (error: StoreFailure): StoreFailure =>
    error._tag === "StoreError" &&
    error.cause instanceof Pg.DatabaseError &&
    error.cause.constraint === names.plain("commands_pkey")
      ? new StoreError({
          operation: error.operation,
          cause: new Error(behind(names, positions), { cause: error.cause })
        })
      : error
