/**
 * What a worker process tells the test that has started it, and how it waits for it.
 */
import { writeSync } from "node:fs"

/** A line of JSON, written synchronously: it is out before the next thing begins. */
export const say = (line: object): void => {
  const bytes = Buffer.from(`${JSON.stringify(line)}\n`)
  for (let written = 0; written < bytes.length; ) written += writeSync(1, bytes, written)
}

/** Says it and stops, until the test continues or kills this process. */
export const sayAndStop = (line: object): void => {
  say(line)
  process.kill(process.pid, "SIGSTOP")
  // Should the signal come late, it comes here.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
}
