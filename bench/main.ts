/**
 * `npm run bench -- event-store [options]`, and so for `subscribers`, `aggregate`, `command-store`, `snapshot-store`,
 * `cache-store`, `data-store`, `crypto`, `followers` and `growth`.
 *
 * Runs on the built library, as an application would. This file chooses the bench; what it measures and its options are
 * in its folder. Servers are those of EFFECT_STORES_TEST_PG_URL (an empty database, please) and
 * EFFECT_STORES_TEST_REDIS_URL, or private ones from the machine's binaries.
 */
import * as aggregate from "./aggregate/bench.js"
import * as cacheStore from "./cacheStore/bench.js"
import * as commandStore from "./commandStore/bench.js"
import * as crypto from "./crypto/bench.js"
import * as dataStore from "./dataStore/bench.js"
import * as eventStore from "./eventStore/bench.js"
import * as subscribers from "./eventStore/subscribers.js"
import * as followers from "./followers/bench.js"
import * as growth from "./growth/bench.js"
import * as snapshotStore from "./snapshotStore/bench.js"

interface Bench {
  readonly usage: string
  readonly prepare: (args: ReadonlyArray<string>) => () => Promise<void>
}

const benches: Readonly<Record<string, Bench>> = {
  "event-store": eventStore,
  subscribers,
  aggregate,
  "cache-store": cacheStore,
  "command-store": commandStore,
  "snapshot-store": snapshotStore,
  "data-store": dataStore,
  crypto,
  followers,
  growth
}

const prepared = () => {
  const [name = "", ...args] = process.argv.slice(2)
  try {
    return benches[name]?.prepare(args)
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    return undefined
  }
}

const run = prepared()
if (run === undefined) {
  for (const { usage } of Object.values(benches)) console.error(`usage: npm run bench -- ${usage}`)
  process.exit(2)
}
await run()
