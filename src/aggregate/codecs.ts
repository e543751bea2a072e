/**
 * What a definition decodes and encodes with: for loads and saves, not for users, so it stands under one key of it.
 */
import type * as Effect from "effect/Effect"
import type * as Either from "effect/Either"

export interface Codecs<S, E> {
  readonly decodeEvent: (data: unknown) => Either.Either<E, unknown>
  readonly decodeState: (data: unknown) => Either.Either<S, unknown>
  readonly encodeState: (state: S) => Effect.Effect<unknown, unknown>
}
