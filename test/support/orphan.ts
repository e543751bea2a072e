/**
 * Runs in each process that vitest starts for a test file, and ends it with the vitest that started it. Otherwise a
 * vitest that is killed leaves the process behind, and with it the servers and child processes of its tests.
 */
// not process.exit: vitest replaces it by a function that throws
process.once("disconnect", () => process.kill(process.pid, "SIGKILL"))
