/**
 * What the store keeps of an object in S3 beside its bytes, and where. The user's metadata never becomes a header of
 * its own: all is one text, in base64url and in pieces that every server takes (Swift: 256 bytes each). Where it is too
 * long for headers, or not known when they are sent (an upload in parts), it is an object of its own, named by the id
 * of the write; that is stored before the object can be seen, and says which upload it belongs to, for the sweep.
 */
import { ownPrefix } from "../../dataStore/DataStoreEncoded.js"

/** What every object of this library carries in its headers, and all of it that fits. */
export interface Mark {
  readonly writeId: string
  readonly keyId: string | null
  /** Undefined when it is in the object `recordName(writeId)`. */
  readonly fields: Fields | undefined
}

export interface Fields {
  readonly contentType: string
  readonly metadata: string
  readonly checksums: string | null
}

/** The record as an object: of which object, and of which upload while there is one. */
export interface Sidecar {
  readonly name: string
  readonly uploadId: string | null
  readonly fields: Fields | null
}

const valueLength = 240

/** With their names well below the 2 KiB that S3 allows in all. */
const headerLengthMax = 1_680

const prefix = "x-amz-meta-es-"

export const recordName = (writeId: string): string => `${ownPrefix}${writeId}`

export const fits = (mark: Mark): boolean => encode(mark).length <= headerLengthMax

const encode = ({ fields, keyId, writeId }: Mark): string =>
  Buffer.from(JSON.stringify({ v: 1, w: writeId, k: keyId, f: fields })).toString("base64url")

export const headersOf = (mark: Mark): Record<string, string> => {
  const text = encode(mark)
  const count = Math.ceil(text.length / valueLength)
  return Object.fromEntries(
    Array.from({ length: count }, (_, i) => [`${prefix}${i}`, text.slice(i * valueLength, (i + 1) * valueLength)])
  )
}

/** Undefined for an object that was not put by this library. */
export const markOf = (
  headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
): Mark | undefined => {
  let text = ""
  for (let i = 0; ; i++) {
    const value = headers[`${prefix}${i}`]
    if (typeof value !== "string") break
    text += value
  }
  if (text === "") return undefined
  try {
    const { f, k, v, w } = JSON.parse(Buffer.from(text, "base64url").toString())
    return v === 1 && typeof w === "string" ? { writeId: w, keyId: k, fields: f } : undefined
  } catch {
    return undefined
  }
}

export const sidecarText = (sidecar: Sidecar): Uint8Array => Buffer.from(JSON.stringify({ v: 1, ...sidecar }))

export const sidecarOf = (text: string): Sidecar | undefined => {
  try {
    const found = JSON.parse(text)
    return found.v === 1 && typeof found.name === "string" ? found : undefined
  } catch {
    return undefined
  }
}
