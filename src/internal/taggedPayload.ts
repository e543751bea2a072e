/**
 * How a stored event or command becomes a value for an application's Schema: its type is the value's `_tag`.
 */
import type { Json } from "../Json.js"

export const taggedPayload = ({ data, type }: { readonly data: Json; readonly type: string }): unknown =>
  typeof data === "object" && data !== null && !Array.isArray(data) ? { ...data, _tag: type } : data
