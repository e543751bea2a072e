/**
 * The servers that a bench measures on: the one it was given, or a private one that ends with it.
 */
import { startPostgres } from "../test/support/postgres.js"
import { startRedis } from "../test/support/redis.js"

export interface Server {
  readonly url: string
  /** Undefined of one that was given. */
  readonly pid?: number | undefined
  readonly stop: () => Promise<void>
}

const given = (variable: string): Server | undefined => {
  const url = process.env[variable]
  return url ? { url, stop: async () => {} } : undefined
}

export const postgres = async (): Promise<Server> =>
  given("EFFECT_STORES_TEST_PG_URL") ?? (await startPostgres({ maxConnections: 100 }))

export const redis = async (): Promise<Server> => given("EFFECT_STORES_TEST_REDIS_URL") ?? (await startRedis())
