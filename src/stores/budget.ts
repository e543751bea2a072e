/**
 * The connections that the stores of this process, and others like it, may open together, beside what the servers
 * allow.
 */
import * as Effect from "effect/Effect"
import type { OpenPool } from "./plans.js"

/** One warning for each server that may be asked for more than it allows. */
export const checkPools = (pools: ReadonlyArray<OpenPool>, expectedProcesses: number): Effect.Effect<void> =>
  Effect.forEach(
    new Set(pools.map(({ server }) => server)),
    (server) => {
      const here = pools.filter((pool) => pool.server === server)
      const [{ allowed }] = here as [OpenPool, ...ReadonlyArray<OpenPool>]
      const sum = here.reduce((total, { max }) => total + max, 0)
      return Effect.flatMap(allowed, (allowed) => {
        const most = sum * expectedProcesses
        if (allowed === undefined || most <= allowed) return Effect.void
        const keys = here.flatMap(({ max, variable }) => (variable === undefined ? [] : [`${variable} (${max})`]))
        const listeners = here.reduce((total, { max, variable }) => (variable === undefined ? total + max : total), 0)
        const beside = listeners === 0 ? "" : `, beside ${listeners} of each process that listens`
        const processes = expectedProcesses === 1 ? "" : ` times EXPECTED_PROCESSES (${expectedProcesses})`
        return Effect.logWarning(
          `the stores may open ${most} connections to ${server}, which allows ${allowed} to all its clients: ` +
            `lower ${keys.join(", ")}${processes}${beside}`
        )
      })
    },
    { discard: true }
  )
