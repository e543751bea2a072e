/**
 * What `npm run test:mutation` holds against each slip that Stryker puts into the sources: the tests of the contracts on
 * the backend in memory, and of what the stores share. They need no server and take seconds, since they run thousands
 * of times.
 */
import { defineConfig } from "vitest/config"

process.env.EFFECT_STORES_TEST = "mutation"
process.env.EFFECT_STORES_TEST_PG = "off"
process.env.EFFECT_STORES_TEST_REDIS = "off"

export default defineConfig({
  ssr: { resolve: { conditions: ["source"] } },
  resolve: { conditions: ["source"] },
  test: {
    include: [
      "test/*-store.memory.test.ts",
      "test/{aggregate,aggregate-lives,aggregate-saves,aggregate-snapshots}.test.ts",
      "test/{background-saves,snapshot-outages,snapshot-policy}.test.ts",
      "test/{command-aggregate,command-execution,fingerprint,json,memory-transactions,relift}.test.ts",
      "test/{telemetry,upcasting,uuid}.test.ts",
      "test/cache/{breaker,memory}.test.ts",
      "test/data/{bodies,moments}.test.ts"
    ],
    globalSetup: ["test/support/global-setup.ts"],
    testTimeout: 60_000
  }
})
