/**
 * The keys of subjects in memory: for tests, and as the model that the other backends are compared with. With the
 * process everything is lost that they have sealed elsewhere.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Encoded from "../crypto/SubjectKeysEncoded.js"
import { pagesOf } from "../internal/pages.js"
import { makeNote } from "./database/notes.js"

/**
 * A port of its own for each call.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded: Effect.Effect<Encoded.Encoded> = Effect.sync(() => {
  const rows = new Map<string, Encoded.EncodedSubjectKey>()
  return {
    find: (by, values) =>
      Effect.sync(() => {
        const asked = new Set(values)
        return [...rows.values()].filter((row) => row[by] !== null && asked.has(row[by]))
      }),
    create: (key) =>
      Effect.sync(() => {
        const kept = rows.get(key.ref) ?? key
        rows.set(key.ref, kept)
        return kept
      }),
    shred: ({ keyId, ref, shreddedAt }) =>
      Effect.sync(() => {
        const kept = rows.get(ref)
        const tombstone = {
          ref,
          keyId: kept?.keyId ?? keyId,
          wrapped: null,
          wrappedBy: null,
          createdAt: kept?.createdAt ?? shreddedAt,
          shreddedAt: kept?.shreddedAt ?? shreddedAt
        }
        rows.set(ref, tombstone)
        return tombstone
      }),
    rewrap: ({ ref, was, wrapped, wrappedBy }) =>
      Effect.sync(() => {
        const kept = rows.get(ref)
        if (kept === undefined || kept.wrapped !== was) return false
        rows.set(ref, { ...kept, wrapped, wrappedBy })
        return true
      }),
    all: Effect.suspend(() => pagesOf([...rows.values()])),
    count: Effect.sync(() => rows.size),
    note: makeNote()
  }
})

/**
 * Keys that last as long as the layer, others for each call.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (): Layer.Layer<Encoded.SubjectKeys> => Layer.effect(Encoded.SubjectKeys, makeEncoded)
