/**
 * The same projection on emmett's PostgreSQL event store and consumer.
 */
import { promiseSide, type Side } from "../harness.js"
import { load, versionsOf } from "../installed.js"

interface Recorded {
  readonly data: { readonly customer: string }
  readonly metadata: { readonly streamName: string; readonly streamPosition: bigint }
}

interface Context {
  readonly connection: { readonly client: { query(text: string, values: ReadonlyArray<unknown>): Promise<unknown> } }
}

interface Consumer {
  readonly projector: (options: object) => unknown
  readonly start: () => Promise<void>
  readonly close: () => Promise<void>
}

interface Emmett {
  readonly getPostgreSQLEventStore: (url: string) => {
    readonly schema: { readonly migrate: () => Promise<unknown> }
    readonly appendToStream: (name: string, events: ReadonlyArray<object>) => Promise<unknown>
    readonly close: () => Promise<void>
  }
  readonly postgreSQLEventStoreConsumer: (options: object) => Consumer
  readonly postgreSQLProjection: (definition: {
    readonly name: string
    readonly canHandle: ReadonlyArray<string>
    readonly handle: (events: ReadonlyArray<Recorded>, context: Context) => Promise<void>
  }) => unknown
}

/** A side that catches up anew in each run, with a processor of its own. `append` fills its store. */
export const emmett = async (options: {
  readonly url: string
  readonly type: string
  readonly batchSize: number
  readonly events: number
  readonly table: string
}): Promise<{
  readonly side: Side
  readonly facts: Readonly<Record<string, string>>
  readonly append: (stream: string, events: ReadonlyArray<object>) => Promise<unknown>
  readonly close: () => Promise<void>
}> => {
  const { batchSize, events, table, type, url } = options
  const name = "@event-driven-io/emmett-postgresql"
  const { getPostgreSQLEventStore, postgreSQLEventStoreConsumer, postgreSQLProjection } = await load<Emmett>(name)
  const store = getPostgreSQLEventStore(url)
  await store.schema.migrate()

  let handled = 0
  const upsert = async (batch: ReadonlyArray<Recorded>, { connection }: Context): Promise<void> => {
    const values = batch.flatMap(({ data, metadata }) => [
      `${metadata.streamName}/${metadata.streamPosition}`,
      data.customer,
      Number(metadata.streamPosition)
    ])
    const rows = batch.map((_, i) => `($${3 * i + 1}, $${3 * i + 2}, $${3 * i + 3})`)
    await connection.client.query(
      `insert into ${table} (id, customer, version) values ${rows.join(", ")}
        on conflict (id) do update set customer = excluded.customer, version = excluded.version`,
      values
    )
    handled += batch.length
  }

  let runs = 0
  return {
    facts: versionsOf(name),
    append: (stream, events) => store.appendToStream(stream, events),
    close: () => store.close(),
    side: promiseSide("emmett", async () => {
      const processorId = `orders-${++runs}`
      handled = 0
      const consumer = postgreSQLEventStoreConsumer({
        connectionString: url,
        // Its default pause of 50 ms, which it makes between full batches too, would be all that is measured.
        pulling: { batchSize, pullingFrequencyInMs: 1 },
        stopWhen: { noMessagesLeft: true }
      })
      consumer.projector({
        processorId,
        startFrom: "BEGINNING",
        projection: postgreSQLProjection({ name: processorId, canHandle: [type], handle: upsert })
      })
      await consumer.start()
      await consumer.close()
      if (handled < events) throw new Error(`${handled} events instead of ${events}`)
    })
  }
}
