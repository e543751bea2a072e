/**
 * The SnapshotStore's port, sealed: a state is bound to its stream, version, form and mark. The checksum is that of
 * what is stored, so that damage is found without keys.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { CryptoError, KeyCheckFailed } from "../CryptoError.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import { pagedStream } from "../internal/pages.js"
import { SnapshotCorrupt } from "../SnapshotStore.js"
import { type StreamId, streamName } from "../StreamId.js"
import { checksum, type Encoded, type EncodedSnapshot } from "../snapshotStore/SnapshotStoreEncoded.js"
import { ContextWriter } from "./formats/context.js"
import type { FindKey } from "./formats/envelope.js"
import { inTurns, type Steps } from "./formats/steps.js"
import type { Key } from "./keys/key.js"
import {
  type Cipher,
  openedInTurns,
  openText,
  prepare,
  refusedPlain,
  sealing,
  sealingKeyFor,
  seals,
  sealText
} from "./sealer.js"
import type { Rules } from "./subjects/rules.js"
import { type RowCodec, rowRecord, type Upkeep, upkeepOf } from "./upkeep.js"

const checked = (snapshot: Omit<EncodedSnapshot, "checksum">): EncodedSnapshot => ({
  ...snapshot,
  checksum: checksum(snapshot)
})

/** How states are sealed and opened, for the port and for who works on stored rows. */
export const snapshotCodec = (cipher: Cipher, storeId: string) => {
  const context = (row: Omit<EncodedSnapshot, "checksum">): Buffer =>
    new ContextWriter()
      .text("kind", "snapshot")
      .text("store", storeId)
      .text("tenant", row.tenantId)
      .text("domain", row.domain)
      .text("id", row.aggregateId)
      .number("version", row.version)
      .text("field", "state")
      .text("schemaVersion", row.schemaVersion)
      .text("mark", row.lastEventMark).bytes

  const named = (row: EncodedSnapshot) => () => `the snapshot of ${streamName(row)} at version ${row.version}`

  function* seal(key: Key, { checksum: _, ...plain }: EncodedSnapshot): Steps<EncodedSnapshot> {
    return checked({ ...plain, keyId: key.id, state: yield* sealText(key, context(plain), plain.state) })
  }

  function* open(row: EncodedSnapshot, find: FindKey): Steps<EncodedSnapshot | CryptoError> {
    const { checksum: _, ...rest } = row
    if (row.keyId === null) return refusedPlain(cipher, row.createdAt, "createdUntilMs", named(row)) ?? row
    const state = yield* openText(find, row.keyId, context(row), row.state, named(row))
    return typeof state === "string" ? checked({ ...rest, keyId: null, state }) : state
  }

  return { seal, open }
}

const subjectOf = (rules: Rules, row: EncodedSnapshot) => rules.snapshot(row)

/** Whether it is what was stored; the lift calls it corrupt if not. */
export const isWhole = ({ checksum: stored, ...row }: EncodedSnapshot): boolean => stored === checksum(row)

export const seal = (
  cipher: Cipher,
  port: Encoded
): Effect.Effect<Encoded, InvalidInput | StoreFailure | KeyCheckFailed> =>
  sealing(
    "SnapshotStore",
    port,
    Effect.map(prepare(cipher, "SnapshotStore", port.note), (storeId) => overPort(cipher, port, storeId))
  )

const overPort = (cipher: Cipher, port: Encoded, storeId: string): readonly [Encoded, Upkeep] => {
  const codec = snapshotCodec(cipher, storeId)

  const opened = (row: EncodedSnapshot): Effect.Effect<EncodedSnapshot, CryptoError> =>
    Effect.flatMap(cipher.ring.finding(new Set(row.keyId === null ? [] : [row.keyId])), (find) =>
      openedInTurns(() => codec.open(row, find))
    )

  /** Sealed with the key that it is to have. `stored`: the key of what it replaces. */
  const sealed = (stored: string | null, snapshot: EncodedSnapshot): Effect.Effect<EncodedSnapshot, StoreFailure> =>
    Effect.flatMap(
      sealingKeyFor(
        cipher,
        stored,
        (rules) => subjectOf(rules, snapshot),
        () => `the snapshot of ${streamName(snapshot)}`
      ),
      (key) => inTurns(() => codec.seal(key, snapshot))
    )

  const replace: Encoded["replace"] = ({ state, was }) =>
    Effect.flatMap(port.latest(was, Number.MAX_SAFE_INTEGER), (row) => {
      if (row === null || !isWhole(row)) return Effect.succeed(false)
      return Effect.flatMap(opened(row), ({ checksum, ...plain }) =>
        checksum === was.checksum
          ? Effect.flatMap(sealed(row.keyId, checked({ ...plain, state })), (now) => port.replace({ was: row, ...now }))
          : Effect.succeed(false)
      )
    })

  const rows: RowCodec<EncodedSnapshot> = {
    keyIds: ({ keyId }) => [keyId],
    open: codec.open,
    seal: codec.seal,
    subjectOf,
    payloads: ({ state }) => [state],
    replace: (was, { checksum, keyId, state }) => port.replace({ was, state, keyId, checksum })
  }

  const whole = (stream: StreamId): Effect.Effect<EncodedSnapshot | null, StoreFailure | SnapshotCorrupt> =>
    Effect.filterOrFail(
      port.latest(stream, Number.MAX_SAFE_INTEGER),
      (row) => row === null || isWhole(row),
      () => new SnapshotCorrupt({ stream, why: "does not have its checksum" })
    )

  const upkeep = upkeepOf(cipher, {
    store: "SnapshotStore",
    total: Effect.map(port.info, ({ snapshots }) => snapshots),
    records: () =>
      Stream.map(pagedStream(port.addresses), ({ keyId, ...stream }) =>
        rowRecord(cipher, rows, `the snapshot of ${streamName(stream)}`, [keyId], whole(stream))
      )
  })

  const sealedPort: Encoded = {
    ...port,
    save: seals(cipher) ? (snapshot) => Effect.flatMap(sealed(null, snapshot), port.save) : port.save,
    latest: (stream, atMost) =>
      Effect.flatMap(port.latest(stream, atMost), (row) =>
        row === null || !isWhole(row) ? Effect.succeed(row) : opened(row)
      ),
    replace: seals(cipher) ? replace : port.replace
  }
  return [sealedPort, upkeep]
}
