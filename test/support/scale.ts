/**
 * How much is tried. `EFFECT_STORES_TEST=full` (`npm run test:full`) tries as much as was promised; without it the suite
 * tries the same things a tenth as often, or less where that takes long; and least often where it runs for each of
 * thousands of slips (`npm run test:mutation`).
 */
export const isFull = process.env.EFFECT_STORES_TEST === "full"
const isMutation = process.env.EFFECT_STORES_TEST === "mutation"

/** Random input and random histories for each store on each backend. */
export const badInput = { cases: isFull ? 10_000 : isMutation ? 300 : 1_000 }
export const model = { runs: isFull ? 300 : isMutation ? 20 : 30 }

/** Random moments at which something is interrupted. */
export const moments = isFull ? 1_000 : 300

/** How often a process is killed. */
export const kills = isFull ? 50 : 5
