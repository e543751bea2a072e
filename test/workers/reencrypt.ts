/**
 * Seals anew what the stores of a database hold, and says how far it is, a line for each report. Arguments: `sqlite` and
 * a file or `pg` and a url, the primary key, the other keys separated by commas, and records per second.
 */
import { Effect, Stream } from "effect"
import { CryptoService } from "effect-stores"
import { allStores, onPg, onSqlite, under } from "../sealed/worlds.js"

const [kind, place = "", primary = "", others = "", perSecond = "1"] = process.argv.slice(2)
const world = kind === "pg" ? onPg(place) : onSqlite(place)

const program = Effect.flatMap(allStores, (stores) =>
  Stream.runForEach(CryptoService.reencrypt(stores, { perSecond: Number(perSecond), concurrency: 16 }), (report) =>
    Effect.sync(() =>
      process.stdout.write(
        `${JSON.stringify(report._tag === "Progress" ? { resealed: report.resealed, left: report.left } : { unopened: report.place })}\n`
      )
    )
  )
)

await Effect.runPromise(Effect.provide(program, under(world, [primary, ...others.split(",")])))
process.stdout.write('"done"\n')
