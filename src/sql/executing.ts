/**
 * What `CommandStore.execute` with `transaction` promises can be kept on one database only. An append to a store on
 * another one would be committed although the command is rolled back, so it is refused while that transaction is open.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { StoreError } from "../Errors.js"
import type { InContext } from "./transactions.js"

export interface Database {
  /** Where it is, without secrets. */
  readonly connection: string
  readonly inTransaction: (fiber: InContext) => boolean
}

interface Mark {
  readonly database: Database
  /** What opens such databases. */
  readonly module: string
}

const Executing = Context.GenericTag<Mark>("effect-stores/sql/Executing")

/** What a command does in a transaction of the database, which `module` has opened. */
export const executing = <A, E, R>(
  database: Database,
  module: string,
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => Effect.provideService(self, Executing, { database, module })

/**
 * Why the fiber must not append on this database. The cure names what opens the command's, which may be of another
 * kind.
 */
export const refusal = (fiber: InContext, database: Database): StoreError | undefined => {
  const mark: Mark | undefined = fiber.currentContext.unsafeMap.get(Executing.key)
  if (mark === undefined || mark.database === database || !mark.database.inTransaction(fiber)) return undefined
  const why =
    `the command is executed in a transaction of another database (${mark.database.connection}): ` +
    `give both stores one ${mark.module}.layer, through their layerFromDatabase`
  return new StoreError({ operation: "append", cause: new Error(why) })
}
