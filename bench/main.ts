/**
 * `npm run bench -- event-store [options]`, and so for the others below; `npm run bench` runs all of them.
 *
 * Runs on the built library, as an application would. This file chooses the bench; what it measures and its options are
 * in its folder. Servers are those of EFFECT_STORES_TEST_PG_URL (an empty database, please) and
 * EFFECT_STORES_TEST_REDIS_URL, or private ones from the machine's binaries.
 */
import * as aggregate from "./aggregate/bench.js"
import * as all from "./all.js"
import * as cacheStore from "./cacheStore/bench.js"
import * as commandStore from "./commandStore/bench.js"
import * as crypto from "./crypto/bench.js"
import * as dataStore from "./dataStore/bench.js"
import * as eventStore from "./eventStore/bench.js"
import * as peers from "./eventStore/peers.js"
import * as subscribers from "./eventStore/subscribers.js"
import * as filters from "./filters/bench.js"
import * as followers from "./followers/bench.js"
import * as growth from "./growth/bench.js"
import * as regressions from "./regressions.js"
import * as snapshotStore from "./snapshotStore/bench.js"
import * as workloads from "./workloads/bench.js"

interface Bench {
  readonly usage: string
  readonly prepare: (args: ReadonlyArray<string>) => () => Promise<void>
}

const benches: Readonly<Record<string, Bench>> = {
  "event-store": eventStore,
  peers,
  workloads,
  subscribers,
  aggregate,
  "cache-store": cacheStore,
  "command-store": commandStore,
  "snapshot-store": snapshotStore,
  "data-store": dataStore,
  crypto,
  filters,
  followers,
  growth,
  regressions
}

const prepared = () => {
  const args = process.argv.slice(2)
  const [name] = args
  try {
    // Options alone are those of all.
    if (name === undefined || name.startsWith("-")) return all.prepare(args)
    return benches[name]?.prepare(args.slice(1))
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    return undefined
  }
}

const run = prepared()
if (run === undefined) {
  for (const { usage } of [all, ...Object.values(benches)]) console.error(`usage: npm run bench -- ${usage}`)
  process.exit(2)
}
await run()
