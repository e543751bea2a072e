/**
 * How much is tried. `EFFECT_STORES_TEST=full` (`npm run test:full`) tries as much as was promised; without it the suite
 * is to end in minutes, and tries the same things less often.
 */
export const isFull = process.env.EFFECT_STORES_TEST === "full"

/** Random input and random histories for each store on each backend. */
export const badInput = { cases: isFull ? 10_000 : 2_000 }
export const model = { runs: isFull ? 300 : 100 }

/** How often a process is killed. */
export const kills = isFull ? 50 : 10
