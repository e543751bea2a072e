/**
 * Numbers that look random and are the same for the same seed, so that two runs do the same work.
 */

/** From 0 to below 1 (mulberry32). */
export type Random = () => number

export const seeded = (seed: number): Random => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Each of `n` as often as the others. */
export const uniform =
  (n: number) =>
  (random: Random): number =>
    Math.floor(random() * n)

/** Of `n`, the k-th most wanted 1/k times as often as the first. */
export const zipf = (n: number): ((random: Random) => number) => {
  const cumulative: Array<number> = []
  let sum = 0
  for (let k = 1; k <= n; k++) {
    sum += 1 / k
    cumulative.push(sum)
  }
  return (random) => {
    const wanted = random() * sum
    let [low, high] = [0, n - 1]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((cumulative[middle] ?? 0) < wanted) low = middle + 1
      else high = middle
    }
    return low
  }
}
