/**
 * What the CheckpointStore's tests have in common: followers of their own, and what is compared of a checkpoint.
 */
import { randomUUID } from "node:crypto"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import {
  type Checkpoint,
  CheckpointStore,
  type ClaimOptions,
  type Follower,
  type Lease,
  type NewDeadLetter
} from "../../CheckpointStore.js"
import { type Test as AnyTest, collect } from "../suite.js"

export type Test = AnyTest<CheckpointStore>

export interface OneGeneration extends Follower {
  readonly generation: number
}

export const freshFollower = (generation = 1): OneGeneration => ({ name: `follower ${randomUUID()}`, generation })

/** Outlasts every test. */
export const long = Duration.hours(1)

/** All of a checkpoint but how much is left of its lease, which changes by the millisecond. */
export const plain = ({ leaseLeft, owner, ...checkpoint }: Checkpoint) => ({
  ...checkpoint,
  owner: Option.getOrNull(owner),
  isHeld: Duration.toMillis(leaseLeft) > 0
})

export const listed = (follower: Follower) =>
  Effect.flatMap(CheckpointStore, (store) =>
    Effect.map(collect(store.list(follower)), (checkpoints) => checkpoints.map(plain))
  )

/** Opens a follower of one partition, unless it is open, and claims it. */
export const claimed = (follower: Follower, options: Partial<ClaimOptions> = {}) =>
  Effect.gen(function* () {
    const store = yield* CheckpointStore
    yield* store.open(follower)
    const lease = yield* store.claim(follower, { owner: "one", lease: long, ...options })
    return Option.getOrThrow(lease)
  })

export const positionOf = (follower: Follower) =>
  Effect.map(listed(follower), (checkpoints) => checkpoints.map(({ position }) => position))

export const newLetter = (position: number, fields: Partial<NewDeadLetter> = {}): NewDeadLetter => ({
  tenantId: "acme",
  domain: "order",
  aggregateId: "1",
  eventId: randomUUID(),
  position,
  type: "Placed",
  reason: "EventDecodeError",
  scope: "event",
  ...fields
})

export const lettersOf = (follower: Follower) =>
  Effect.flatMap(CheckpointStore, (store) => collect(store.deadLetters(follower)))

/** Claims again and again until the lease of the holder has ended. */
export const claimedAtLast = (
  follower: Follower,
  options: ClaimOptions
): Effect.Effect<Lease, unknown, CheckpointStore> =>
  Effect.flatMap(CheckpointStore, (store) =>
    Effect.flatMap(store.claim(follower, options), (lease) =>
      Option.isSome(lease)
        ? Effect.succeed(lease.value)
        : Effect.zipRight(Effect.sleep("20 millis"), claimedAtLast(follower, options))
    )
  )
