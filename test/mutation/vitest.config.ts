/**
 * What `npm run test:mutation` holds against each mutant: the tests of rooms.ts that main.ts names. They need no server.
 */
import { defineConfig } from "vitest/config"

process.env.EFFECT_STORES_TEST = "mutation"
process.env.EFFECT_STORES_TEST_PG = "off"
process.env.EFFECT_STORES_TEST_REDIS = "off"

export default defineConfig({
  ssr: { resolve: { conditions: ["source"] } },
  resolve: { conditions: ["source"] },
  test: {
    include: JSON.parse(process.env.EFFECT_STORES_MUTATION_TESTS ?? "[]"),
    globalSetup: ["test/support/global-setup.ts"],
    setupFiles: ["test/support/equality.ts"],
    testTimeout: 60_000
  }
})
