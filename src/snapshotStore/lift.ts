/**
 * The step from the SnapshotStore's port to its public service. Here, once for all backends: input is checked, states
 * become JSON text and back, and stored snapshots are checked against their checksum.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { InvalidInput } from "../Errors.js"
import type { StreamId } from "../EventStore.js"
import { JsonText, utc } from "../internal/encoding.js"
import { Lifted, withoutKeys } from "../internal/lifted.js"
import * as Telemetry from "../internal/telemetry.js"
import {
  checked,
  identifier,
  integer,
  options as knownKeys,
  payload,
  streamId,
  time,
  uuid
} from "../internal/validate.js"
import type { NewSnapshot, Snapshot, SnapshotStoreShape } from "../SnapshotStore.js"
import { SnapshotCorrupt } from "../SnapshotStore.js"
import * as BackgroundSaves from "./backgroundSaves.js"
import { snapshotChecksum } from "./checksum.js"
import type { Encoded, EncodedSnapshot, Options } from "./SnapshotStoreEncoded.js"

const lifted = new Lifted<SnapshotStoreShape, Encoded, Options>("SnapshotStore")

export const lift = (port: Encoded, options: Options): Effect.Effect<SnapshotStoreShape, never, Scope.Scope> => {
  const { encoded, look } = withoutKeys("the SnapshotStore", port, ["save"])
  return Effect.map(serviceOf(encoded, options), (service) => lifted.add(service, port, options, look))
}

export const relift = <E, R>(
  service: SnapshotStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
): Effect.Effect<SnapshotStoreShape, E | InvalidInput, R | Scope.Scope> =>
  Effect.flatMap(lifted.rewrap(service, wrap), ({ encoded, options }) => lift(encoded, options))

const serviceOf = (encoded: Encoded, options: Options): Effect.Effect<SnapshotStoreShape, never, Scope.Scope> => {
  const observe = Telemetry.make("SnapshotStore", options)

  const save: SnapshotStoreShape["save"] = (stream, snapshot) =>
    observe.write("save", (nowMs, span) =>
      checked(
        () => encode(stream, snapshot, nowMs),
        (snapshot) => {
          Telemetry.describe(span, { domain: snapshot.domain, version: snapshot.version })
          return encoded.save(snapshot)
        }
      )
    )

  const delete_: SnapshotStoreShape["delete"] = (stream) =>
    observe.write("delete", (_, span) =>
      checked(
        () => streamId(stream, "stream"),
        (stream) => {
          Telemetry.describe(span, { domain: stream.domain })
          return encoded.delete(stream)
        }
      )
    )

  return Effect.map(
    BackgroundSaves.make({ save, delete: delete_ }, options.savesMax ?? 8),
    ({ flush, saveInBackground }) => ({
      save,
      saveInBackground: (stream, snapshot, saveOptions) =>
        options.readOnly ? Effect.void : saveInBackground(stream, snapshot, saveOptions),
      flush,

      latest: (stream, latestOptions) =>
        observe.effect("latest", (_, span) =>
          checked(
            () => ({
              stream: streamId(stream, "stream"),
              atMost: atMostOf(knownKeys(latestOptions, "options", ["atMost"]).atMost)
            }),
            ({ atMost, stream }) => {
              Telemetry.describe(span, { domain: stream.domain })
              return Effect.flatMap(encoded.latest(stream, atMost), (found) => {
                Telemetry.describe(span, { version: found?.version })
                return found === null ? Effect.succeedNone : Effect.asSome(decode(stream, found))
              })
            }
          )
        ),

      delete: delete_,

      info: observe.effect("info", () =>
        Effect.map(encoded.info, (info) => ({ ...info, readOnly: options.readOnly ?? false }))
      ),

      reset: observe.write("reset", () => encoded.reset)
    })
  )
}

const atMostOf = (value: unknown): number =>
  value === undefined ? Number.MAX_SAFE_INTEGER : integer(value, "options.atMost", 0)

const encode = (stream: unknown, value: NewSnapshot, nowMs: number): EncodedSnapshot => {
  const snapshot = knownKeys(value, "snapshot", ["version", "lastEventMark", "schemaVersion", "state", "createdAt"])
  const fields = {
    ...streamId(stream, "stream"),
    version: integer(snapshot.version, "snapshot.version", 1),
    lastEventMark: uuid(snapshot.lastEventMark, "snapshot.lastEventMark"),
    schemaVersion: identifier(snapshot.schemaVersion, "snapshot.schemaVersion"),
    state: snapshot.state instanceof JsonText ? snapshot.state.text : payload(snapshot.state, "snapshot.state"),
    keyId: null,
    createdAt: snapshot.createdAt === undefined ? nowMs : time(snapshot.createdAt, "snapshot.createdAt")
  }
  return { ...fields, checksum: snapshotChecksum(fields) }
}

const decode = (
  stream: StreamId,
  { checksum: stored, ...row }: EncodedSnapshot
): Effect.Effect<Snapshot, SnapshotCorrupt> => {
  const { createdAt, keyId, lastEventMark, schemaVersion, version } = row
  const { aggregateId, domain, tenantId } = stream
  const corrupt = (why: string) => Effect.fail(new SnapshotCorrupt({ stream, why }))
  // With the address that was asked for: a snapshot found under another's address does not belong to this stream.
  if (stored !== snapshotChecksum({ ...row, ...stream }))
    return corrupt("is not what was saved: its checksum does not fit")
  if (keyId !== null) return corrupt(`is sealed with key ${keyId}, and the store was opened without keys`)
  let state: Snapshot["state"]
  try {
    state = JSON.parse(row.state)
  } catch {
    return corrupt("is no JSON")
  }
  return Effect.succeed({
    tenantId,
    domain,
    aggregateId,
    version,
    lastEventMark,
    schemaVersion,
    state,
    createdAt: utc(createdAt)
  })
}
