/**
 * The address of a stream, shared by all stores that know aggregates.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * The address of a stream. Each part is 1 to 255 bytes of UTF-8 without NUL and lone surrogates, compared exactly.
 * Anything with these fields is an address, such as an event or an aggregate of the application.
 *
 * @since 0.1.0
 * @category models
 */
export interface StreamId {
  readonly tenantId: string
  readonly domain: string
  readonly aggregateId: string
}

/**
 * @since 0.1.0
 * @category models
 */
export const StreamId = Schema.Struct({
  tenantId: Schema.String,
  domain: Schema.String,
  aggregateId: Schema.String
})

/**
 * A key for maps: no part of an address contains NUL.
 *
 * @since 0.1.0
 * @category conversions
 */
export const streamKey = ({ aggregateId, domain, tenantId }: StreamId): string =>
  `${tenantId}\0${domain}\0${aggregateId}`

/**
 * For people.
 *
 * @since 0.1.0
 * @category conversions
 */
export const streamName = ({ aggregateId, domain, tenantId }: StreamId): string =>
  `${tenantId}/${domain}/${aggregateId}`
