/**
 * The step from the CheckpointStore's port to its public service. Here, once for all backends: input is checked, and
 * outcomes become errors.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Checkpoint, CheckpointStoreShape, DeadLetter, Lease } from "../CheckpointStore.js"
import { CheckpointLost } from "../CheckpointStore.js"
import { InvalidInput, NotFound, type ReadFailure } from "../Errors.js"
import { type Pages, pagedStream } from "../internal/pages.js"
import * as Telemetry from "../internal/telemetry.js"
import { checked } from "../internal/validate.js"
import type { Encoded, EncodedCheckpoint, EncodedFollower, EncodedPlace, Options } from "./CheckpointStoreEncoded.js"
import * as input from "./input.js"

export const lift = (encoded: Encoded, options: Options): CheckpointStoreShape => {
  const observe = Telemetry.make("CheckpointStore", options)

  return {
    open: (follower, openOptions) =>
      observe.write("open", () =>
        checked(
          () => ({ ...input.follower(follower), partitions: input.partitionsOf(openOptions) }),
          (request) =>
            Effect.flatMap(encoded.open(request), (found) => {
              const partitions = found[0]?.partitions
              return partitions === request.partitions
                ? Effect.succeed(found.map(decode))
                : Effect.fail(otherPartitions(request.partitions, partitions))
            })
        )
      ),

    claim: (follower, claimOptions) =>
      observe.write("claim", () =>
        checked(
          () => input.claim(follower, claimOptions),
          (request) =>
            Effect.flatMap(encoded.claim(request), (claimed) => {
              if (claimed !== null) return Effect.succeedSome(leaseOf(claimed, request.owner, request.leaseMs))
              return Effect.flatMap(encoded.find(request), (found) =>
                found === null ? Effect.fail(missing(request)) : Effect.succeedNone
              )
            })
        )
      ),

    renew: (lease) =>
      observe.write("renew", () =>
        checked(
          () => input.lease(lease),
          (held) => Effect.flatMap(encoded.renew(held), (renewed) => (renewed ? Effect.void : lost(held)))
        )
      ),

    commit: (lease, position, commitOptions) =>
      observe.write("commit", () =>
        checked(
          () => {
            const held = input.lease(lease)
            return { held, position: input.position(position, held), letters: input.commit(held, commitOptions) }
          },
          ({ held, letters, position }) =>
            Effect.flatMap(encoded.commit({ ...held, ...letters, from: held.position, position }), (committed) =>
              committed ? Effect.succeed(leaseOf({ ...held, position }, held.owner, held.leaseMs)) : lost(held)
            )
        )
      ),

    release: (lease) =>
      observe.write("release", () =>
        checked(
          () => input.lease(lease),
          (held) => encoded.renew({ ...held, leaseMs: 0 })
        )
      ),

    list: (filter) =>
      observe.stream("list", () => Stream.map(pagedStream(checked(() => input.filter(filter), encoded.list)), decode)),

    deadLetters: (follower) =>
      observe.stream("deadLetters", () =>
        pagedStream(
          checked(
            () => input.follower(follower),
            (of) => named(encoded.deadLetters(of), of)
          )
        )
      ),

    delete: (follower) => observe.write("delete", () => checked(() => input.wholeFollower(follower), encoded.delete)),

    transaction: encoded.transaction,

    info: observe.effect("info", () =>
      Effect.map(encoded.info, (info) => ({ ...info, readOnly: options.readOnly ?? false }))
    ),

    reset: observe.write("reset", () => encoded.reset)
  }
}

/** With whose they are. */
const named = (pages: ReturnType<Encoded["deadLetters"]>, of: EncodedFollower): Pages<DeadLetter, ReadFailure> =>
  Effect.map(pages, ({ items, next }) => ({
    items: items.map((letter) => ({ ...of, ...letter })),
    next: next && named(next, of)
  }))

const decode = ({ leaseLeftMs, owner, ...checkpoint }: EncodedCheckpoint): Checkpoint => ({
  ...checkpoint,
  owner: Option.fromNullable(owner),
  leaseLeft: Duration.millis(leaseLeftMs)
})

const leaseOf = (
  { generation, name, partition, partitions, position, token }: Omit<EncodedCheckpoint, "owner" | "leaseLeftMs">,
  owner: string,
  leaseMs: number
): Lease => ({
  name,
  generation,
  partition,
  partitions,
  owner,
  token,
  position,
  duration: Duration.millis(leaseMs)
})

const lost = ({ generation, name, owner, partition }: input.EncodedLease): Effect.Effect<never, CheckpointLost> =>
  Effect.fail(new CheckpointLost({ follower: name, generation, partition, owner }))

const missing = ({ generation, name, partition }: EncodedPlace): NotFound =>
  new NotFound({ what: `partition ${partition} of follower ${name} (generation ${generation})` })

const otherPartitions = (given: number, stored: number | undefined): InvalidInput =>
  new InvalidInput({
    what: "options.partitions",
    why: `is ${given}, and the follower was opened with ${stored}: rebuild it under a new generation to change that`
  })
