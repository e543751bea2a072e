/**
 * Runs in each process that vitest starts for a test file, and ends it with the vitest that started it. Otherwise a
 * vitest that is killed leaves the process behind, and with it the servers and child processes of its tests.
 */
process.once("disconnect", () => process.exit(1))
