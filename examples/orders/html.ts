/**
 * HTML in which everything that is put between is text, whatever it is: customers choose their names.
 */

export class Html {
  constructor(readonly text: string) {}
}

type Part = Html | ReadonlyArray<Html> | string | number

export const html = (literals: TemplateStringsArray, ...parts: ReadonlyArray<Part>): Html =>
  new Html(literals.reduce((text, literal, i) => text + textOf(parts[i - 1] as Part) + literal))

const textOf = (part: Part): string => {
  if (part instanceof Html) return part.text
  return typeof part === "object" ? part.map(({ text }) => text).join("") : escape(String(part))
}

const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
