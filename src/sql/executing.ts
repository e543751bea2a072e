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

const Executing = Context.GenericTag<Database>("effect-stores/sql/Executing")

/** What a command does in a transaction of the database. */
export const executing = <A, E, R>(database: Database, self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(self, Executing, database)

/** Why the fiber must not append on this database. `module`: what opens such databases. */
export const refusal = (fiber: InContext, database: Database, module: string): StoreError | undefined => {
  const other: Database | undefined = fiber.currentContext.unsafeMap.get(Executing.key)
  if (other === undefined || other === database || !other.inTransaction(fiber)) return undefined
  const why =
    `the command is executed in a transaction of another database (${other.connection}): ` +
    `give both stores one ${module}.layer, through their layerFromDatabase`
  return new StoreError({ operation: "append", cause: new Error(why) })
}
