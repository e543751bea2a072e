/**
 * What tests see of an S3 server past the store: requests of their own, signed by the client's own code.
 */
import { Effect, Redacted } from "effect"
import type { DataStore } from "effect-stores"
import type { DataStoreMinio } from "effect-stores/minio"
import { Client } from "minio"

export const clientOf = ({ accessKey, endpoint, secretKey }: DataStoreMinio.ServerOptions): Client => {
  const url = new URL(endpoint)
  return new Client({
    endPoint: url.hostname,
    port: Number(url.port),
    useSSL: false,
    accessKey,
    secretKey: Redacted.value(secretKey),
    region: "us-east-1"
  })
}

const textOf = async (client: Client, bucketName: string, query: string): Promise<string> => {
  const response = await client.makeRequestAsync({ method: "GET", bucketName, query }, "", [200], "us-east-1")
  let text = ""
  for await (const bytes of response) text += String(bytes)
  return text
}

/**
 * The records of unfinished uploads that belong to no object, and the uploads that are not ended, in all buckets of the
 * store. The finished record of a large object that a small one has replaced stays until the next sweep, by design.
 */
export const leftOnS3 = (options: DataStoreMinio.ServerOptions): Effect.Effect<number> =>
  Effect.promise(async () => {
    const client = clientOf(options)
    const { bucketPrefix = "" } = options
    let left = 0
    for (const { name: bucket } of await client.listBuckets()) {
      if (!bucket.startsWith(bucketPrefix)) continue
      left += (await textOf(client, bucket, "uploads")).split("<UploadId>").length - 1
      for await (const { name } of client.listObjects(bucket, ".effect-stores/", true) as AsyncIterable<{
        name: string
      }>) {
        const body = await client.getObject(bucket, name)
        let text = ""
        for await (const bytes of body) text += String(bytes)
        const { fields, name: object } = JSON.parse(text) as { readonly name: string; readonly fields: unknown }
        if (fields !== null) continue
        const mark = await client.statObject(bucket, object).then(
          ({ metaData }) => Buffer.from(String(metaData["es-0"]), "base64url").toString(),
          () => ""
        )
        if (!mark.includes(name.slice(".effect-stores/".length))) left++
      }
    }
    return left
  })

/** Puts the object again with another byte in it, and the same headers. */
export const damageOnS3 =
  (options: DataStoreMinio.ServerOptions) =>
  ({ bucket, name }: DataStore.ObjectId, offset: number): Effect.Effect<void> =>
    Effect.promise(async () => {
      const client = clientOf(options)
      const at = `${options.bucketPrefix ?? ""}${bucket}`
      const chunks: Array<Buffer> = []
      for await (const bytes of await client.getObject(at, name)) chunks.push(bytes as Buffer)
      const body = Buffer.concat(chunks)
      body[offset] = (body[offset] ?? 0) ^ 1
      const { metaData } = await client.statObject(at, name)
      await client.putObject(at, name, body, body.byteLength, metaData)
    })
