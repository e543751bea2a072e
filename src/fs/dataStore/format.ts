/**
 * What a file of the DataStore is: the bytes of the object, then what is known of it as JSON, then 24 bytes that tell
 * where that begins and that it is whole. So a file is valid by itself, whatever it is called and wherever it lies, and
 * the bytes begin where the file begins.
 */
import { createHash } from "node:crypto"
import type { EncodedObject } from "../../dataStore/DataStoreEncoded.js"

/** Version 1 of the format. */
const magic = Buffer.from("es-data1")
const sumBytes = 12
const footerBytes = magic.byteLength + 4 + sumBytes

/** Read first, from the end of a file: all that follows the bytes of most objects, and small objects whole. */
export const tailBytes = 64 * 1024

/** What follows the bytes: everything but the etag, which is the id of the write. */
export type Trailer = Omit<EncodedObject, "etag" | "writeId"> & { readonly writeId: string }

const sumOf = (json: Uint8Array): Buffer => createHash("sha256").update(json).digest().subarray(0, sumBytes)

export const trailer = (object: Trailer): Buffer => {
  const { bucket, checksums, contentType, keyId, metadata, modifiedAt, name, size, writeId } = object
  const json = Buffer.from(
    JSON.stringify({ bucket, name, size, contentType, metadata, keyId, checksums, writeId, modifiedAt })
  )
  const length = Buffer.alloc(4)
  length.writeUInt32BE(json.byteLength)
  return Buffer.concat([json, length, sumOf(json), magic])
}

/** How many bytes at the end of a file belong to its trailer; undefined when it is no file of this format. */
export const trailerBytes = (tail: Buffer): number | undefined => {
  if (tail.byteLength < footerBytes || !tail.subarray(-magic.byteLength).equals(magic)) return undefined
  return tail.readUInt32BE(tail.byteLength - footerBytes) + footerBytes
}

/**
 * The object, from a tail that has all of the trailer; undefined when it is not whole or not of a file of that size.
 */
export const parse = (tail: Buffer, fileBytes: number): EncodedObject | undefined => {
  const length = trailerBytes(tail)
  if (length === undefined || length > tail.byteLength) return undefined
  const json = tail.subarray(tail.byteLength - length, tail.byteLength - footerBytes)
  const sum = tail.subarray(-magic.byteLength - sumBytes, -magic.byteLength)
  if (!sumOf(json).equals(sum)) return undefined
  const found = JSON.parse(json.toString()) as Trailer
  return found.size === fileBytes - length ? { ...found, etag: found.writeId } : undefined
}
