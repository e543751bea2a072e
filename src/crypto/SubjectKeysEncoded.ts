/**
 * The port of what keeps the keys of subjects, and its tag. A key is kept wrapped, under a reference to its subject
 * that does not name it. One row for each subject is what all guarantees stand on: there is never a second key beside
 * one that cannot be unwrapped, and a subject that was forgotten is a row, a tombstone, and no gap that a new key would
 * fill.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { ReadFailure, StoreFailure } from "../Errors.js"
import type { Pages } from "../internal/pages.js"

export type { Pages } from "../internal/pages.js"

/**
 * The key of a subject, or its tombstone. Times are epoch milliseconds.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedSubjectKey {
  /** Of the subject: 64 hexadecimal digits. */
  readonly ref: string
  /** 16 hexadecimal digits. Null in the tombstone of a subject that never had a key. */
  readonly keyId: string | null
  /** The key as an envelope R1 in base64url. Null: it was destroyed. */
  readonly wrapped: string | null
  /** The key of the ring that has wrapped it. Null with `wrapped`. */
  readonly wrappedBy: string | null
  readonly createdAt: number
  /** Null while there is a key. */
  readonly shreddedAt: number | null
}

/**
 * What a backend implements. Every member but `all` is one atomic step that no transaction of a caller can undo: what
 * was sealed with a key stays when the transaction in which it was first needed is rolled back. Each may be used
 * concurrently and be interrupted at any time.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Encoded {
  /** Those that are there, in any order. */
  readonly find: (
    by: "ref" | "keyId",
    values: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<EncodedSubjectKey>, ReadFailure>

  /** Keeps the key unless its subject has one, or a tombstone, and returns what is kept. */
  readonly create: (key: EncodedSubjectKey) => Effect.Effect<EncodedSubjectKey, StoreFailure>

  /**
   * Puts a tombstone in the place of the key, or where there is nothing, and returns it. One that is there stays; the
   * id of the key is taken where it is not known.
   */
  readonly shred: (
    request: Pick<EncodedSubjectKey, "ref" | "keyId"> & { readonly shreddedAt: number }
  ) => Effect.Effect<EncodedSubjectKey, StoreFailure>

  /** Replaces the wrapping of a key, if it is still as `was` says. False when it is not. */
  readonly rewrap: (request: {
    readonly ref: string
    readonly was: string
    readonly wrapped: string
    readonly wrappedBy: string
  }) => Effect.Effect<boolean, StoreFailure>

  /** Keys and tombstones, in any order. One that is there all the while comes at least once. */
  readonly all: Pages<EncodedSubjectKey, ReadFailure>

  readonly count: Effect.Effect<number, ReadFailure>

  /** Returns the value under this name; if there is none, and one is given, keeps that first. */
  readonly note: (name: string, value: string | null) => Effect.Effect<string | null, StoreFailure>
}

/**
 * Keeps the keys of subjects: `SubjectKeysPg`, `SubjectKeysSqlite`, `SubjectKeysMemory`, or a backend of your own.
 *
 * @since 0.1.0
 * @category tags
 */
export class SubjectKeys extends Context.Tag("effect-stores/SubjectKeys")<SubjectKeys, Encoded>() {}
