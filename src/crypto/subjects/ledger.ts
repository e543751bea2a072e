/**
 * The ledger of forgotten subjects: what a backup that is restored does not know. It is written before a key is
 * destroyed, and names nobody.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { InvalidInput, StoreError, type StoreFailure } from "../../Errors.js"

/**
 * A subject that was forgotten, by what its key is stored under: the SHA-256 of its name, and the id of its key if it
 * had one.
 *
 * @since 0.1.0
 * @category models
 */
export interface LedgerEntry {
  /** 64 hexadecimal digits. */
  readonly ref: string
  /** 16 hexadecimal digits, or null. */
  readonly keyId: string | null
  /** Epoch milliseconds. */
  readonly at: number
}

/**
 * Remembers who was forgotten, apart from the databases: entries are added and never taken away. When `append` has
 * ended, a loss of power does not take the entry away. `entries` gives each at least once, and fails where what is kept
 * cannot be read.
 *
 * @since 0.1.0
 * @category models
 */
export interface ShredLedgerShape {
  readonly append: (entry: LedgerEntry) => Effect.Effect<void, StoreFailure>
  readonly entries: Stream.Stream<LedgerEntry, StoreFailure>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class ShredLedger extends Context.Tag("effect-stores/ShredLedger")<ShredLedger, ShredLedgerShape>() {}

/** A ledger of its own for each call, for tests. */
export const makeMemory: Effect.Effect<ShredLedgerShape> = Effect.sync(() => {
  const kept: Array<LedgerEntry> = []
  return {
    append: (entry) => Effect.sync(() => void kept.push(entry)),
    entries: Stream.suspend(() => Stream.fromIterable([...kept]))
  }
})

const failed = (operation: string, cause: unknown): StoreError => new StoreError({ operation, cause })

/**
 * 1. Opens the file for appending, or makes it, for its owner only.
 * 2. Writes the entry as one line, in one write, so that lines of several processes do not mix. A line ends first: a
 *    process may have died in the middle of one, at any moment.
 * 3. Syncs the file, and the directory if the file is new.
 */
const appendLine = async (file: string, entry: LedgerEntry): Promise<void> => {
  const isNew = !fs.existsSync(file)
  const handle = await fs.promises.open(file, "a", 0o600)
  try {
    await handle.appendFile(`\n${JSON.stringify(entry)}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  if (isNew) {
    const directory = await fs.promises.open(path.dirname(file), "r")
    try {
      await directory.sync()
    } finally {
      await directory.close()
    }
  }
}

const entryOf = (line: string): LedgerEntry | undefined => {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  if (typeof value !== "object" || value === null) return undefined
  const { at, keyId, ref } = value as Record<string, unknown>
  const isWhole =
    typeof ref === "string" &&
    /^[0-9a-f]{64}$/.test(ref) &&
    (keyId === null || (typeof keyId === "string" && /^[0-9a-f]{16}$/.test(keyId))) &&
    Number.isSafeInteger(at)
  return isWhole ? { ref, keyId: keyId as string | null, at: at as number } : undefined
}

/** Whether it is what is left of a line whose process died: a beginning of an entry. */
const isTorn = (line: string): boolean => line.startsWith("{") && !line.endsWith("}")

const linesOf = (file: string): Stream.Stream<string, StoreError> =>
  Stream.suspend(() => {
    if (!fs.existsSync(file)) return Stream.empty
    let rest = ""
    return Stream.concat(
      Stream.mapConcat(
        Stream.fromAsyncIterable(fs.createReadStream(file, { encoding: "utf8" }) as AsyncIterable<string>, (cause) =>
          failed(`reading the ledger ${file}`, cause)
        ),
        (piece) => {
          const lines = (rest + piece).split("\n")
          rest = lines.pop() ?? ""
          return lines
        }
      ),
      Stream.suspend(() => Stream.make(rest))
    )
  })

/**
 * What is no entry fails the reading: a line that somebody has changed may be somebody who must stay forgotten. Only
 * what a process that died has left of a line is passed over, since it has destroyed no key yet.
 */
const entriesOf = (file: string): Stream.Stream<LedgerEntry, StoreError> =>
  Stream.suspend(() => {
    let number = 0
    return Stream.filter(
      Stream.mapEffect(linesOf(file), (line): Effect.Effect<LedgerEntry | undefined, StoreError> => {
        number++
        const entry = entryOf(line)
        if (entry !== undefined || line === "") return Effect.succeed(entry)
        if (isTorn(line))
          return Effect.as(
            Effect.logWarning(`the ledger ${file} has a line that was not written to its end`),
            undefined
          )
        return Effect.fail(failed(`reading the ledger ${file}`, new Error(`its line ${number} is no entry`)))
      }),
      (entry) => entry !== undefined
    )
  })

export const makeFile = (file: string): ShredLedgerShape => ({
  append: (entry) =>
    Effect.uninterruptible(
      Effect.tryPromise({
        try: () => appendLine(file, entry),
        catch: (cause) => failed(`writing to the ledger ${file}`, cause)
      })
    ),
  entries: entriesOf(file)
})

/** Its directory must be there, so that a mistaken path is found at the start. */
export const layerFile = (file: string): Layer.Layer<ShredLedger, InvalidInput> =>
  Layer.effect(
    ShredLedger,
    Effect.suspend(() => {
      if (typeof file !== "string" || file === "")
        return Effect.fail(new InvalidInput({ what: "ledger", why: "must be the path of a file" }))
      const absolute = path.resolve(file)
      return fs.existsSync(path.dirname(absolute))
        ? Effect.succeed(makeFile(absolute))
        : Effect.fail(
            new InvalidInput({
              what: "ledger",
              why: `is in the folder ${path.dirname(absolute)}, which does not exist: create it`
            })
          )
    })
  )
