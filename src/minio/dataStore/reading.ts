/**
 * The bytes of an object from S3, asked for when the Stream is run. A body that is cut off is gone on with from where
 * it stopped, under the condition that the object is still the same; after some tries without a byte it is an error.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type BodyError, ObjectChanged, type ObjectId } from "../../DataStore.js"
import { StoreError, StoreUnavailable } from "../../Errors.js"
import type { Download } from "./client.js"
import { isRange, type S3 } from "./s3.js"

interface Place {
  readonly bucket: string
  readonly name: string
  readonly etag: string
  readonly size: number
}

/** `id` is what the user calls the object, `place` where it is. */
export const read = (
  s3: S3,
  id: ObjectId,
  place: Place,
  maxRetries: number,
  offset: number,
  length: number
): Stream.Stream<Uint8Array, BodyError> => {
  const { bucket, etag, name, size } = place
  const end = offset + length
  const changed = new ObjectChanged({ bucket: id.bucket, name: id.name })

  return Stream.unwrapScoped(
    Effect.map(Effect.scope, (scope) => {
      let at = offset
      let tries = 0
      let open: { readonly body: Download; readonly scope: Scope.CloseableScope } | undefined

      const close = Effect.suspend(() => {
        const closing = open?.scope
        open = undefined
        return closing === undefined ? Effect.void : Scope.close(closing, Exit.void)
      })

      const lost = (cause: unknown): Effect.Effect<void, BodyError> =>
        Effect.zipRight(
          close,
          Effect.suspend((): Effect.Effect<void, BodyError> => {
            tries++
            return tries > maxRetries
              ? Effect.fail(new StoreUnavailable({ operation: "get", retryable: true, cause }))
              : s3.pause(tries - 1)
          })
        )

      const request = Effect.flatMap(Scope.fork(scope, { _tag: "Sequential" }), (own) =>
        Effect.flatMap(
          Effect.either(Scope.extend(s3.download(bucket, name, etag, at, end), own)),
          (answer): Effect.Effect<void, BodyError> => {
            if (answer._tag === "Left") {
              return Effect.zipRight(Scope.close(own, Exit.void), lost(answer.left.cause))
            }
            const body = answer.right
            open = { body, scope: own }
            if (isRange(body, at, end, size)) return Effect.void
            const { status } = body
            // Another object, none, or one of another size.
            if ([200, 206, 404, 412, 416].includes(status)) return Effect.zipRight(close, Effect.fail(changed))
            const cause = new Error(`the server answered ${status}`)
            return status >= 500 || status === 429 || status === 408
              ? lost(cause)
              : Effect.zipRight(close, Effect.fail(new StoreError({ operation: "get", cause })))
          }
        )
      )

      const next: Effect.Effect<Uint8Array, Option.Option<BodyError>> = Effect.suspend(() => {
        if (at >= end) return Effect.fail(Option.none())
        if (open === undefined) return Effect.zipRight(Effect.mapError(request, Option.some), next)
        return Effect.flatMap(Effect.either(open.body.next), (answer) => {
          if (answer._tag === "Left")
            return Effect.zipRight(Effect.mapError(lost(answer.left.cause), Option.some), next)
          const bytes = answer.right
          if (bytes === null) {
            const ended = lost(new Error(`the body ended after ${at - offset} of ${length} bytes`))
            return Effect.zipRight(Effect.mapError(ended, Option.some), next)
          }
          tries = 0
          at += bytes.byteLength
          // To the end of the response, so that its socket is free again.
          return at >= end && open !== undefined
            ? Effect.as(Effect.ignore(open.body.next), bytes)
            : Effect.succeed(bytes)
        })
      })

      return Stream.repeatEffectOption(next)
    })
  )
}
