/**
 * The bench of the EventStore beside the bare drivers: `--only` takes the workloads whose name has the text; `--quick` is
 * for a look: the smaller workloads, for moments. `--profile` measures nothing, and shows where the time of our side goes.
 */
import { chosenBy, usage as partsUsage } from "../parts.js"
import { memory } from "./memory.js"
import { pg } from "./pg.js"
import { sqlite, sqliteOff } from "./sqlite.js"

export const usage = `event-store [--what pg,sqlite,sqlite-off,memory] ${partsUsage}`

export const prepare = chosenBy(
  "event-store",
  { pg: () => pg(), sqlite: () => sqlite(), "sqlite-off": sqliteOff, memory },
  { isQuick: ({ concurrency, events }) => events <= 1_000 && (concurrency === 1 || concurrency === 32) }
)
