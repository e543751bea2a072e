/**
 * A function for those who look into payloads with SQL. A payload is JSON text, and may have what PostgreSQL's own JSON
 * cannot: U+0000, and halves of surrogate pairs. A cast would fail for the whole query because of one of them.
 */
import type { Names } from "../names.js"

/**
 * Such a character in JSON text is always an escape, behind an even number of backslashes: the encoder writes all
 * others, and whole pairs, as they are.
 */
const refused = String.raw`(?<!\\)((?:\\\\)*)\\u(?:0000|d[89a-f][0-9a-f]{2})`

/** What begins a sealed payload, and no JSON text: the first byte of an envelope, 0xFE, in base64url. */
const sealed = "_"

export const jsonFunction = (names: Names): string =>
  `
-- A payload as jsonb, to be looked into: null if it is sealed. Characters that jsonb refuses are replaced by U+FFFD.
create function ${names.qualified("json")}(payload text) returns jsonb language sql immutable strict parallel safe as $$
  select case
    when left(payload, 1) = '${sealed}' then null
    when strpos(payload, '\\u') = 0 then payload::jsonb
    else regexp_replace(payload, '${refused}', U&'\\\\1\\FFFD', 'gi')::jsonb
  end
$$;`.trim()
