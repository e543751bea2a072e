/**
 * Finding out what a server does: by doing it, because what servers answer is not always what they have done.
 */
import * as Effect from "effect/Effect"
import type { StoreFailure } from "../../Errors.js"
import * as Uuid from "../../Uuid.js"
import type { S3, Sent } from "./s3.js"

const racers = 8
const rounds = 3

/** What was found that the server does. */
interface Found {
  putIfAbsent?: boolean
  putIfMatch?: "quoted" | "unquoted"
  public?: boolean
  objectLocking?: boolean
}

export const probe = (s3: S3, bucketPrefix: string, endpoint: URL) =>
  Effect.gen(function* () {
    const nowMs = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    const bucket = `${bucketPrefix}probe-${Uuid.v7(nowMs).slice(0, 13)}`
    const capabilities: Found = {}
    const why: Partial<Record<keyof Found, string>> = {}
    const never = Effect.succeed(undefined)
    const put = (name: string, body: string, headers: Record<string, string>) =>
      Effect.either(s3.put("probe", bucket, name, Buffer.from(body), headers, never))
    const wins = (answers: ReadonlyArray<{ readonly _tag: string; readonly right?: Sent }>) =>
      answers.filter(({ right }) => right?._tag === "Done").length
    const race = (name: (i: number) => string, headers: Record<string, string>) =>
      Effect.map(
        Effect.all(
          Array.from({ length: racers }, (_, i) => put(name(i), `racer ${i}`, headers)),
          { concurrency: "unbounded" }
        ),
        wins
      )

    yield* Effect.acquireRelease(s3.createBucket(bucket, "", false), () =>
      Effect.ignore(
        Effect.gen(function* () {
          const page = yield* s3.list(bucket, "", "", "", 1_000)
          yield* Effect.forEach(page?.objects ?? [], ({ name }) => s3.remove("probe", bucket, name))
          yield* s3.deleteBucket(bucket)
        })
      )
    )

    const ifAbsent = { "if-none-match": "*" }
    yield* put("there", "first", {})
    const second = yield* put("there", "second", ifAbsent)
    const body = yield* s3.get("probe", bucket, "there")
    if (second._tag === "Left") why.putIfAbsent = second.left.message
    else if (second.right._tag !== "Refused" || body !== "first") why.putIfAbsent = "it replaces what is there"
    else {
      const winners = yield* Effect.forEach(Array.from({ length: rounds }), (_, round) =>
        race(() => `race-${round}`, ifAbsent)
      )
      if (winners.every((count) => count === 1)) capabilities.putIfAbsent = true
      else why.putIfAbsent = `of ${racers} at once ${winners.join(", ")} won`
    }

    for (const form of ["quoted", "unquoted"] as const) {
      const first = yield* put("match", "first", {})
      const etag = first._tag === "Right" && first.right._tag === "Done" ? first.right.etag : ""
      const ifMatch = (of: string) => ({ "if-match": form === "quoted" ? `"${of}"` : of })
      const wrong = yield* put("match", "wrong", ifMatch("0".repeat(32)))
      const right = yield* put("match", "right", ifMatch(etag))
      if (wrong._tag === "Left") why.putIfMatch = wrong.left.message
      else if (wrong.right._tag !== "Refused") why.putIfMatch = "it replaces what does not match"
      else if (right._tag === "Left" || right.right._tag !== "Done") why.putIfMatch = "it refuses what matches"
      else {
        const { etag } = right.right
        const winners = yield* race(() => "match", ifMatch(etag))
        if (winners === 1) capabilities.putIfMatch = form
        else why.putIfMatch = `of ${racers} at once ${winners} won`
        if (winners === 1) break
      }
    }
    if (capabilities.putIfMatch !== undefined) delete why.putIfMatch

    const isPublic = yield* Effect.either(
      Effect.zipRight(
        s3.setPolicy(bucket, {
          Version: "2012-10-17",
          Statement: [
            {
              Effect: "Allow",
              Principal: { AWS: ["*"] },
              Action: ["s3:GetObject"],
              Resource: [`arn:aws:s3:::${bucket}/*`]
            }
          ]
        }),
        Effect.promise(() =>
          fetch(`${endpoint.origin}/${bucket}/there`)
            .then((response) => response.text())
            .catch(() => "")
        )
      )
    )
    if (isPublic._tag === "Left") why.public = isPublic.left.message
    else if (isPublic.right === "first") capabilities.public = true
    else why.public = "what is public cannot be read without a signature"

    const locked = `${bucket}-lock`
    const locking = yield* Effect.either(
      Effect.gen(function* () {
        yield* s3.createBucket(locked, "", true)
        return yield* Effect.ensuring(s3.lockOf(locked), Effect.ignore(s3.deleteBucket(locked)))
      })
    )
    if (locking._tag === "Left") why.objectLocking = locking.left.message
    else if (locking.right) capabilities.objectLocking = true
    else why.objectLocking = "the bucket has no lock"

    return { capabilities, why }
  }) satisfies Effect.Effect<unknown, StoreFailure, unknown>
