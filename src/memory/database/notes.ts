/**
 * What a store in memory keeps beside its rows. No transaction undoes it: what is kept once stays.
 */
import * as Effect from "effect/Effect"

export const makeNote = () => {
  const notes = new Map<string, string>()
  return (name: string, value: string | null): Effect.Effect<string | null> =>
    Effect.sync(() => {
      if (value !== null && !notes.has(name)) notes.set(name, value)
      return notes.get(name) ?? null
    })
}
