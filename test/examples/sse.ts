/**
 * Server-sent events of a response, as they come.
 */
import type { Schema } from "effect"
import type { Change } from "../../examples/orders/api.js"

export interface Message {
  readonly id: string
  readonly data: Schema.Schema.Type<typeof Change>
}

export class ServerSentEvents {
  private text = ""
  private readonly decoder = new TextDecoder()
  private constructor(private readonly reader: ReadableStreamDefaultReader<Uint8Array>) {}

  static async of(response: Response): Promise<ServerSentEvents> {
    if (!response.ok || response.body === null) throw new Error(`status ${response.status}`)
    return new ServerSentEvents(response.body.getReader())
  }

  /** The next message; undefined when the response has ended. */
  async next(): Promise<Message | undefined> {
    for (;;) {
      const end = this.text.indexOf("\n\n")
      if (end >= 0) {
        const fields = new Map(
          this.text
            .slice(0, end)
            .split("\n")
            .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)])
        )
        this.text = this.text.slice(end + 2)
        const [id, data] = [fields.get("id"), fields.get("data")]
        if (id !== undefined && data !== undefined) return { id, data: JSON.parse(data) }
        continue
      }
      const { done, value } = await this.reader.read()
      if (done) return undefined
      this.text += this.decoder.decode(value, { stream: true })
    }
  }

  async take(count: number): Promise<ReadonlyArray<Message>> {
    const found: Array<Message> = []
    while (found.length < count) {
      const next = await this.next()
      if (next === undefined) throw new Error(`ended after ${found.length} of ${count}`)
      found.push(next)
    }
    return found
  }

  cancel(): Promise<void> {
    return this.reader.cancel()
  }
}
