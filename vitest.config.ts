/**
 * The test runner's set-up. Servers are found or started by test/support/global-setup.ts.
 */
import { defineConfig } from "vitest/config"

/** Where to write the results as JSON beside the usual report, for scripts. */
const report = process.env.EFFECT_STORES_TEST_REPORT

/**
 * The whole contract on two S3 servers takes longer than the rest together, and has not been seen to end yet on the last
 * code: `npm run test:full` runs it. What is particular to S3 is tested on Ceph's gateway in test/data/minio.test.ts.
 */
const longOnly = ["test/data-store.ceph.test.ts", "test/data-store.swift.test.ts"]
const isFull = process.env.EFFECT_STORES_TEST === "full"

export default defineConfig({
  // the library under its own name is its sources
  ssr: { resolve: { conditions: ["source"] } },
  resolve: { conditions: ["source"] },
  test: {
    include: ["test/**/*.test.ts"],
    exclude: isFull ? [] : longOnly,
    globalSetup: ["test/support/global-setup.ts"],
    setupFiles: ["test/support/orphan.ts"],
    // a process per file: native drivers and process.env are its own
    pool: "forks",
    poolOptions: { forks: { minForks: 1, maxForks: 2 } },
    // bounds for a report that something hangs, and no measures of speed: with all processors busy tests take minutes
    testTimeout: 180_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    reporters: report ? ["default", ["json", { outputFile: report }]] : ["default"]
  }
})
