/**
 * The order of the values in a list, and the pages that a list in memory is given in.
 */
import { Effect, Exit } from "effect"
import { expect, it } from "vitest"
import { byBytes, type Pages, pageSize, pagesOf } from "../src/internal/pages.js"

it("text is ordered by its UTF-8 bytes, also where UTF-16 has another order", () => {
  // The first and the last character of each length in UTF-8, and those beside the surrogates.
  const edges = ["\u{1}", "\u{7f}", "\u{80}", "\u{7ff}", "\u{800}", "\u{d7ff}", "\u{e000}", "\u{ffff}"]
  const characters = [...edges, "\u{10000}", "\u{10ffff}"]
  const texts = ["", ...characters, ...characters.map((character) => `a${character}`)]
  for (const one of texts) {
    for (const other of texts) {
      const order = Buffer.compare(Buffer.from(one), Buffer.from(other))
      expect(Math.sign(byBytes(one, other)), JSON.stringify([one, other])).toBe(order)
    }
  }
})

/** All items of the pages, and which of the pages let the event loop go on. */
const walk = async <A>(first: Pages<A, never>) => {
  const items: Array<A> = []
  const turns: Array<number> = []
  let page: Pages<A, never> | undefined = first
  for (let i = 0; page !== undefined; i++) {
    if (Exit.isFailure(Effect.runSyncExit(page))) turns.push(i)
    const { items: some, next }: Effect.Effect.Success<Pages<A, never>> = await Effect.runPromise(page)
    for (const item of some) items.push(item)
    page = next
  }
  return { items, turns }
}

it("a long list lets the event loop go on between every 16 pages, a shorter one does not", async () => {
  const items = Array.from({ length: 32 * pageSize + 1 }, (_, i) => i)
  expect(await walk(pagesOf(items))).toEqual({ items, turns: [0, 16, 32] })
  const shorter = items.slice(0, 16 * pageSize)
  expect(await walk(pagesOf(shorter))).toEqual({ items: shorter, turns: [] })
})
