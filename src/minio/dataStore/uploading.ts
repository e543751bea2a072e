/**
 * A body of any length on its way to S3: one plain PUT if it fits into a part, else an upload in parts of one size,
 * which is what all servers take. While one part is sent the next is filled: two buffers of that size, whatever the
 * length.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type { StoreFailure } from "../../Errors.js"

/** Longer than a part takes that is almost there. */
const partGrace = "1 second"

export interface Upload {
  readonly part: (number: number, bytes: Uint8Array) => Effect.Effect<string, StoreFailure>
}

/** Grows to the size of a part as it is filled, so that small bodies cost no more than they have. */
class PartBuffer {
  private bytes = Buffer.alloc(0)
  length = 0

  constructor(private readonly partBytes: number) {}

  /** Takes what there is room for; returns how much. */
  add(piece: Uint8Array, from: number): number {
    const count = Math.min(this.partBytes - this.length, piece.byteLength - from)
    const needed = this.length + count
    if (needed > this.bytes.byteLength) {
      const larger = Buffer.allocUnsafeSlow(Math.min(this.partBytes, Math.max(needed, this.bytes.byteLength * 2)))
      this.bytes.copy(larger, 0, 0, this.length)
      this.bytes = larger
    }
    this.bytes.set(piece.subarray(from, from + count), this.length)
    this.length = needed
    return count
  }

  get isFull(): boolean {
    return this.length === this.partBytes
  }

  get content(): Uint8Array {
    return this.bytes.subarray(0, this.length)
  }
}

/**
 * Runs the body. `begin` is asked for an upload when there is more than one part; undefined ends it (there is no such
 * bucket). Returns what is left for a plain PUT, or the etags of all parts.
 */
export const send = <E, U extends Upload>(
  body: Stream.Stream<Uint8Array, E>,
  partBytes: number,
  begin: Effect.Effect<U | undefined, StoreFailure>
): Effect.Effect<
  | { readonly _tag: "Whole"; readonly bytes: Uint8Array }
  | { readonly _tag: "Parts"; readonly upload: U; readonly etags: ReadonlyArray<string>; readonly size: number }
  | { readonly _tag: "None" },
  E | StoreFailure
> =>
  Effect.suspend(() => {
    let filling = new PartBuffer(partBytes)
    let spare: PartBuffer | undefined
    let upload: U | undefined
    let gone = false
    let size = 0
    let number = 0
    const etags: Array<string> = []
    let sending: Fiber.Fiber<string, StoreFailure> | undefined

    const sent = Effect.suspend(() =>
      sending === undefined
        ? Effect.void
        : Effect.map(Fiber.join(sending), (etag) => {
            etags.push(etag)
            sending = undefined
          })
    )

    const flush = Effect.gen(function* () {
      if (upload === undefined) {
        upload = yield* begin
        if (upload === undefined) {
          gone = true
          return
        }
      }
      yield* sent
      const full = filling
      filling = spare ?? new PartBuffer(partBytes)
      filling.length = 0
      spare = full
      const part = Effect.interruptible(upload.part(++number, full.content))
      // Nobody's child: what runs the stream ends its own, and this one is joined or interrupted here.
      yield* Effect.uninterruptible(
        Effect.map(Effect.forkDaemon(part), (fiber) => {
          sending = fiber
        })
      )
    })

    const add = (piece: Uint8Array): Effect.Effect<boolean, StoreFailure> =>
      Effect.gen(function* () {
        size += piece.byteLength
        for (let from = 0; from < piece.byteLength; ) {
          // Only now is it known that there is more.
          if (filling.isFull) yield* flush
          if (gone) return false
          from += filling.add(piece, from)
        }
        return true
      })

    return Stream.runForEachWhile(body, add).pipe(
      Effect.flatMap(() =>
        Effect.gen(function* () {
          if (gone) return { _tag: "None" as const }
          if (upload === undefined) return { _tag: "Whole" as const, bytes: filling.content }
          yield* flush
          yield* sent
          return { _tag: "Parts" as const, upload, etags, size }
        })
      ),
      Effect.onError(() => (sending === undefined ? Effect.void : ended(sending)))
    )
  })

/**
 * A part that a server has heard whole is stored even when nobody waits for it; and if the upload was aborted
 * meanwhile, Ceph's gateway keeps a part of no upload. So it may end by itself, if it does soon.
 */
const ended = (sending: Fiber.Fiber<string, StoreFailure>): Effect.Effect<void> =>
  Effect.zipRight(
    Effect.raceFirst(Effect.interruptible(Fiber.await(sending)), Effect.interruptible(Effect.sleep(partGrace))),
    Effect.asVoid(Fiber.interrupt(sending))
  )
