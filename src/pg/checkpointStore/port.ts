/**
 * The CheckpointStore's port on PostgreSQL. Every step that writes is one statement. Leases run on the server's clock.
 */
import * as Effect from "effect/Effect"
import type {
  Encoded,
  EncodedCheckpoint,
  EncodedDeadLetter,
  EncodedFollower,
  EncodedPlace
} from "../../checkpointStore/CheckpointStoreEncoded.js"
import type { ReadFailure } from "../../Errors.js"
import { nextAfter, type Pages } from "../../internal/pages.js"
import { firstPlace } from "../../sql/checkpointRows.js"
import type { StoreAccess } from "../database/access.js"
import type { Names } from "../database/names.js"
import * as statements from "./statements.js"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded> =>
  Effect.sync(() => onDatabase(database, names))

const onDatabase = (database: StoreAccess, names: Names): Encoded => {
  const sql = statements.make(names)

  const list = (filter: Parameters<Encoded["list"]>[0], after: EncodedPlace): Pages<EncodedCheckpoint, ReadFailure> =>
    Effect.map(database.run(sql.list(filter, after)), (items) => nextAfter(items, (last) => list(filter, last)))

  const letters = (follower: EncodedFollower, after: number): Pages<EncodedDeadLetter, ReadFailure> =>
    Effect.map(database.run(sql.deadLetters(follower, after)), (items) =>
      nextAfter(items, ({ position }) => letters(follower, position))
    )

  return {
    // Reads again in a statement of its own, since the rows may be those of another, committed while the insert waited.
    open: (request) =>
      Effect.flatMap(database.run(sql.ofFollower(request)), (found) =>
        found.length > 0
          ? Effect.succeed(found)
          : Effect.zipRight(database.run(sql.insert(request)), database.run(sql.ofFollower(request)))
      ),
    claim: (request) => database.run(sql.claim(request)),
    renew: (request) => database.run(sql.renew(request)),
    commit: (request) =>
      database.run(
        request.deadLetters.length === 0 && request.settled.length === 0
          ? sql.commit(request)
          : sql.commitWithLetters(request)
      ),
    deadLetters: (follower) => letters(follower, 0),
    find: (place) => database.run(sql.find(place)),
    list: (filter) => list(filter, firstPlace),
    delete: (follower) => database.run(sql.delete(follower)),
    info: Effect.map(database.run(sql.count), (counts) => ({
      backend: "Pg",
      connection: database.connection,
      ...counts
    })),
    reset: Effect.asVoid(database.run(sql.reset)),
    transaction: database.transaction
  }
}
