/**
 * The little XML of S3, read by hand: every value is text, whatever it looks like, and nothing limits how many there
 * are.
 */

const entities: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" }

const unescaped = (text: string): string =>
  text.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (all, hex?: string, decimal?: string, name?: string) =>
    hex !== undefined
      ? String.fromCodePoint(Number.parseInt(hex, 16))
      : decimal !== undefined
        ? String.fromCodePoint(Number(decimal))
        : (entities[name ?? ""] ?? all)
  )

/** What stands inside each element of that name, as it is written. */
export const elements = (xml: string, name: string): ReadonlyArray<string> =>
  Array.from(
    xml.matchAll(new RegExp(`<${name}(?:\\s[^>]*)?(?:/>|>([\\s\\S]*?)</${name}>)`, "g")),
    ([, inner]) => inner ?? ""
  )

/** The text of the first element of that name; empty when there is none. */
export const textOf = (xml: string, name: string): string => unescaped(elements(xml, name)[0] ?? "")

export const escaped = (text: string): string => text.replace(/[<>&"']/g, (char) => `&#${char.charCodeAt(0)};`)
