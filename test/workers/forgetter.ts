/**
 * A process of an application whose subjects can be forgotten. Arguments: what it does, the files of the stores, of the
 * keys and of the ledger, and the customer.
 *
 * - `watch`: writes and reads for the customer until it is killed, and says each time, in a line, when it began and what
 *   became of it.
 * - `die`: forgets the customer, and is killed between the ledger and the tombstone.
 * - `forget`: forgets the customer, and says so.
 */
import { Console, Effect } from "effect"
import { Subjects } from "effect-stores"
import { SubjectKeysSqlite } from "effect-stores/sqlite"
import { processOf, rules, seen, shred, withKeys, written } from "../sealed/subjects.js"
import { onSqlite } from "../sealed/worlds.js"

const [task, storesFile = "", keysFile = "", ledgerFile = "", id = ""] = process.argv.slice(2)

const place = {
  stores: onSqlite(storesFile),
  keys: SubjectKeysSqlite.layer({ filename: keysFile }),
  ledger: Subjects.layerLedgerFile(ledgerFile)
}

const watch = Effect.forever(
  Effect.suspend(() => {
    const beganMs = Date.now()
    return Effect.flatMap(Effect.all([seen(id), written(id)]), ([seen, written]) =>
      Console.log(JSON.stringify({ beganMs, seen, written }))
    )
  })
)

const forget = Effect.zipRight(shred(id), Console.log("forgotten"))

const program =
  task === "forget"
    ? Effect.provide(forget, processOf(place))
    : task === "die"
      ? Effect.provide(
          shred(id),
          processOf(
            withKeys(place, (port) => ({
              ...port,
              shred: () => Effect.sync(() => process.kill(process.pid, "SIGKILL")).pipe(Effect.zipRight(Effect.never))
            }))
          )
        )
      : Effect.provide(watch, processOf(place, { ...rules, lifetime: "1 second" }))

await Effect.runPromise(Effect.asVoid(program))
