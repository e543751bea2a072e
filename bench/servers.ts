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

/** `settings` are for a private one. */
export const postgres = async (settings: Readonly<Record<string, string>> = {}): Promise<Server> =>
  given("EFFECT_STORES_TEST_PG_URL") ?? (await startPostgres({ maxConnections: 100, settings }))

export const redis = async (): Promise<Server> => given("EFFECT_STORES_TEST_REDIS_URL") ?? (await startRedis())
