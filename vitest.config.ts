/**
 * The test runner's set-up. Servers are found or started by test/support/global-setup.ts.
 */
import { defineConfig } from "vitest/config"

/** Where to write the results as JSON beside the usual report, for scripts. */
const report = process.env.EFFECT_STORES_TEST_REPORT

/** A major version of ioredis beside the one that is installed: 6, which package.json has under a name of its own. */
const ioredis = process.env.EFFECT_STORES_TEST_IOREDIS

export default defineConfig({
  // the library under its own name is its sources
  ssr: { resolve: { conditions: ["source"] } },
  resolve: {
    conditions: ["source"],
    alias: ioredis ? [{ find: /^ioredis$/, replacement: `ioredis-${ioredis}` }] : []
  },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/global-setup.ts"],
    setupFiles: ["test/support/orphan.ts", "test/support/equality.ts"],
    // a process per file: native drivers and process.env are its own
    pool: "forks",
    // one more than CI's machine has processors, because tests also wait; not more, because they share a server
    poolOptions: { forks: { minForks: 1, maxForks: 3 } },
    // bounds for a report that something hangs, and no measures of speed: with all processors busy tests take minutes
    testTimeout: 900_000,
    hookTimeout: 900_000,
    teardownTimeout: 300_000,
    reporters: report ? ["default", ["json", { outputFile: report }]] : ["default"]
  }
})
