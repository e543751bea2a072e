/**
 * A value that was checked and encoded already: its JSON text stands for it on the way to the store, so that it is not
 * walked a second time.
 */
export class JsonText {
  constructor(readonly text: string) {}

  toString(): string {
    return this.text
  }
}
