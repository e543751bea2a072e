/**
 * Looks at the checkpoints of a projection: where it stands, and waiting until it has come somewhere.
 */
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { CheckpointStore, type CheckpointStoreShape } from "../CheckpointStore.js"
import type { InvalidInput, ReadFailure } from "../Errors.js"
import { EventStore } from "../EventStore.js"
import { timeoutMs } from "../internal/durations.js"
import { checked, integer, options as knownKeys } from "../internal/validate.js"
import type { Progress, Status } from "../Projection.js"
import type { Definition } from "./definition.js"
import { ProjectionBehind } from "./errors.js"

type Follower = Pick<Definition<unknown>, "name" | "generation">

/** Between looks at the checkpoints: a command's own projection is usually done within the first ones. */
const firstLookMs = 2
const lookMsMax = 100

const timeoutDefaultMs = 10_000

const progressDefaultMs = 1_000

export const checkpointsOf = (store: CheckpointStoreShape, { generation, name }: Follower) =>
  Effect.map(Stream.runCollect(store.list({ name, generation })), Chunk.toReadonlyArray)

export const status = (
  follower: Follower
): Effect.Effect<Status, InvalidInput | ReadFailure, EventStore | CheckpointStore> =>
  Effect.gen(function* () {
    const { generation, name } = follower
    // Before the head, or a partition could seem to be beyond it.
    const checkpoints = yield* checkpointsOf(yield* CheckpointStore, follower)
    const head = yield* Effect.flatMap(EventStore, (store) => store.head)
    return {
      name,
      generation,
      head,
      partitions: checkpoints.map(({ leaseLeft, owner, partition, position }) => ({
        partition,
        position,
        lag: Math.max(0, head - position),
        owner: Duration.greaterThan(leaseLeft, Duration.zero) ? owner : Option.none()
      }))
    }
  })

/** Of the first look: from there on the rate is measured. */
interface Beginning {
  readonly ms: number
  readonly done: number
}

export const progress = (
  follower: Follower,
  options: { readonly every?: Duration.DurationInput | undefined } | undefined
): Stream.Stream<Progress, InvalidInput | ReadFailure, EventStore | CheckpointStore> =>
  Stream.unwrap(
    checked(
      () => {
        const { every } = knownKeys(options, "options", ["every"])
        return every === undefined ? progressDefaultMs : timeoutMs(every, "options.every")
      },
      (everyMs) => {
        let first: Beginning | undefined
        const look = Effect.gen(function* () {
          const { head, partitions } = yield* status(follower)
          const ms = yield* Clock.currentTimeMillis
          const sum = partitions.reduce((sum, { lag }) => sum + (head - lag), 0)
          const done = partitions.length === 0 ? 0 : Math.floor(sum / partitions.length)
          first ??= { ms, done }
          const rate = ms === first.ms ? 0 : ((done - first.done) / (ms - first.ms)) * 1000
          const left = rate > 0 ? Option.some(Duration.seconds((head - done) / rate)) : Option.none()
          return { done, total: head, rate, left }
        })
        const looks = Stream.repeatEffectWithSchedule(look, Schedule.spaced(everyMs))
        return Effect.succeed(Stream.takeUntil(looks, ({ done, total }) => done >= total))
      }
    )
  )

export const awaitPosition = (
  follower: Follower,
  position: number,
  options: { readonly timeout?: Duration.DurationInput | undefined } | undefined
): Effect.Effect<void, ProjectionBehind | InvalidInput | ReadFailure, CheckpointStore> =>
  checked(
    () => {
      const { timeout } = knownKeys(options, "options", ["timeout"])
      return {
        position: integer(position, "position", 0),
        timeoutMs: timeout === undefined ? timeoutDefaultMs : timeoutMs(timeout, "options.timeout")
      }
    },
    (request) =>
      Effect.gen(function* () {
        const endMs = (yield* Clock.currentTimeMillis) + request.timeoutMs
        const store = yield* CheckpointStore
        for (let pauseMs = firstLookMs; ; pauseMs = Math.min(pauseMs * 2, lookMsMax)) {
          const positions = (yield* checkpointsOf(store, follower)).map(({ position }) => position)
          const reached = positions.length === 0 ? 0 : Math.min(...positions)
          if (reached >= request.position) return
          const leftMs = endMs - (yield* Clock.currentTimeMillis)
          if (leftMs <= 0) {
            const { generation, name } = follower
            return yield* new ProjectionBehind({ projection: name, generation, position: request.position, reached })
          }
          yield* Effect.sleep(Math.min(pauseMs, leftMs))
        }
      })
  )
