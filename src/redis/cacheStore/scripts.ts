/**
 * The atomic steps of the CacheStore in Redis that are more than one command. Each is about one key, so a Cluster runs
 * them too, and each may be repeated: a connection may end between a step and its answer. The text under a key is said
 * in `format`.
 */
import { makeScript } from "../database/commands.js"
import { ever, none } from "./format.js"

const prelude = `
local key = KEYS[1]
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local EVER, NONE, UNMARKED = ${ever}, '${none}', string.rep('-', 16)
local function digits(ms) return string.format('%014.0f', ms) end
local function after(ms, start) if ms >= EVER or start >= EVER then return EVER end return start + ms end
-- What begins with another letter is none of ours, and absent.
local function kind(v) return v and string.sub(v, 1, 1) end
local function field(v, from, to) return tonumber(string.sub(v, from, to)) or 0 end
local function token(v) return string.sub(v, 2, 37) end
local function lease(v) return field(v, 38, 51) end
local function marks(v) return string.sub(v, 52, 67) end
local function stamp(v) return string.sub(v, 68, 103) end
local function fresh(v) return field(v, 104, 117) end
local function kept(v) return field(v, 118, 131) end
local function grace(v) return field(v, 132, 145) end
local function tags(v) return field(v, 146, 151) end
local function tagged(v) return tags(v) > 0 end
-- A ticket whose lease is over is none.
local function held(v) return kind(v) == 'c' and token(v) ~= NONE and lease(v) > now end
local function header(t, l, m, s, f, k, g)
  return 'c' .. t .. digits(l) .. m .. s .. digits(f) .. digits(k) .. digits(g)
end
-- The key lives as long as the entry or the ticket.
local function live(untilMs)
  if untilMs >= EVER then redis.call('persist', key)
  else redis.call('pexpireat', key, string.format('%.0f', untilMs)) end
end
local function put(s, ttl, graceMs, tags, payload)
  if graceMs == 0 and tags == '' then
    if ttl >= EVER then redis.call('set', key, 'u' .. s .. payload)
    else redis.call('set', key, 'u' .. s .. payload, 'px', string.format('%.0f', ttl)) end
    return
  end
  local f = after(ttl, now)
  local k = after(graceMs, f)
  local v = header(NONE, 0, UNMARKED, s, f, k, graceMs) .. string.format('%06d', #tags) .. tags .. payload
  if k >= EVER then redis.call('set', key, v)
  else redis.call('set', key, v, 'pxat', string.format('%.0f', k)) end
end
local function answer(what, v) return {what, string.format('%.0f', now), redis.call('pttl', key), v or false} end
local v = redis.call('get', key)
`

const script = (body: string) => makeScript(`${prelude}${body}`)

/** With `head` without the payload. */
export const look = script(`
if ARGV[1] == 'head' and v then
  if kind(v) == 'c' then v = string.sub(v, 1, 151 + tags(v))
  elseif kind(v) == 's' or kind(v) == 'u' then v = kind(v) .. NONE end
end
return answer('look', v)
`)

/** Stamp, time to live, grace, tags, payload. */
export const put = script(`
put(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5])
return 1
`)

/** Payload that is there, and the one to put in its place; all before it stays. */
export const replace = script(`
local at = kind(v) == 's' and 1 or kind(v) == 'u' and 37 or kind(v) == 'c' and 151 + tags(v)
if not at or string.sub(v, at + 1) ~= ARGV[1] then return 0 end
redis.call('set', key, string.sub(v, 1, at) .. ARGV[2], 'keepttl')
return 1
`)

/**
 * The same where nothing fresh is, or what is there has the stamp ARGV[6]. What is fresh by itself and has tags is
 * returned, to be looked at.
 */
export const putIfAbsent = script(`
if kind(v) == 's' then return 0 end
if kind(v) == 'u' then if string.sub(v, 2, 37) == ARGV[1] then return 1 end return 0 end
if kind(v) == 'c' and stamp(v) ~= NONE and fresh(v) > now and stamp(v) ~= ARGV[6] then
  if stamp(v) == ARGV[1] then return 1 end
  if tagged(v) then return answer('look', v) end
  return 0
end
put(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5])
return 1
`)

/** Time to live, and the stamp of what may have tags. */
export const touch = script(`
local ttl = tonumber(ARGV[1])
if kind(v) == 's' or kind(v) == 'u' then live(after(ttl, now)) return 1 end
if kind(v) ~= 'c' or stamp(v) == NONE or fresh(v) <= now then return 0 end
if tagged(v) and stamp(v) ~= ARGV[2] then return answer('look', v) end
local f = after(ttl, now)
local k = after(grace(v), f)
redis.call('setrange', key, 103, digits(f) .. digits(k))
if held(v) and lease(v) > k then k = lease(v) end
live(k)
return 1
`)

/** Ends the time to live, and takes the ticket away. */
export const expire = script(`
if kind(v) ~= 'c' or stamp(v) == NONE or kept(v) <= now or (fresh(v) > now and grace(v) == 0) then
  redis.call('unlink', key)
  return 1
end
local f, k = fresh(v), kept(v)
if f > now then
  f = now
  k = math.min(k, after(grace(v), now))
end
redis.call('setrange', key, 0, header(NONE, 0, UNMARKED, stamp(v), f, k, grace(v)))
live(k)
return 1
`)

/**
 * Token, lease, how much of the time to live is to be left, the stamp of an entry that counts as not fresh whatever its
 * time, and the marks of the tags. A ticket with other marks is void, or for other tags, and gives way. Returns what
 * was there.
 */
export const begin = script(`
local own = kind(v) == 'c' and token(v) == ARGV[1]
local simple = kind(v) == 's' or kind(v) == 'u'
local f, k, g, s, rest = 0, 0, 0, NONE, '000000000'
if simple then
  local left = redis.call('pttl', key)
  f = left == -1 and EVER or now + left
  k = f
  s = kind(v) == 'u' and string.sub(v, 2, 37) or string.rep('s', 36)
  rest = '000000' .. string.sub(v, kind(v) == 'u' and 38 or 2)
elseif kind(v) == 'c' and stamp(v) ~= NONE and kept(v) > now then
  f, k, g, s, rest = fresh(v), kept(v), grace(v), stamp(v), string.sub(v, 146)
end
local refresh = tonumber(ARGV[3])
if not own and f > now and s ~= ARGV[4] and (f >= EVER or f - now > refresh) then return answer('fresh', v) end
if held(v) and not own and marks(v) == ARGV[5] then return answer('busy', v) end
local before = answer('granted', v)
local l = after(tonumber(ARGV[2]), now)
if simple or kind(v) ~= 'c' or s == NONE then
  redis.call('set', key, header(ARGV[1], l, ARGV[5], s, f, k, g) .. rest)
else
  redis.call('setrange', key, 1, ARGV[1] .. digits(l) .. ARGV[5])
end
live(math.max(k, l))
return before
`)

/** Token, lease. */
export const renew = script(`
if not held(v) or token(v) ~= ARGV[1] then return 0 end
local l = after(tonumber(ARGV[2]), now)
redis.call('setrange', key, 37, digits(l))
live(math.max(kept(v), l))
return 1
`)

/** Token, how long the ticket is to stay, and what is to be put, if anything. */
export const settle = script(`
if not held(v) or token(v) ~= ARGV[1] then return 0 end
if ARGV[3] then
  put(ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7])
  return 1
end
local hold = tonumber(ARGV[2])
if hold > 0 then
  redis.call('setrange', key, 37, digits(now + hold))
  live(math.max(kept(v), now + hold))
elseif stamp(v) == NONE or kept(v) <= now then
  redis.call('unlink', key)
else
  redis.call('setrange', key, 1, NONE .. digits(0) .. UNMARKED)
  live(kept(v))
end
return 1
`)

/**
 * The generation of a tag, which is a text of its own: `generation:times expired:when expired`. Makes it where there is
 * none, with the generation ARGV[1], and lets it live for ARGV[2] at least.
 */
export const tag = makeScript(`
local keep = tonumber(ARGV[2])
local v = redis.call('get', KEYS[1])
if not v then
  v = ARGV[1] .. ':0:0'
  if keep >= ${ever} then redis.call('set', KEYS[1], v) else redis.call('set', KEYS[1], v, 'px', ARGV[2]) end
  return v
end
local left = redis.call('pttl', KEYS[1])
if left ~= -1 then
  if keep >= ${ever} then redis.call('persist', KEYS[1])
  elseif left < keep then redis.call('pexpire', KEYS[1], ARGV[2]) end
end
return v
`)

export const expireTag = makeScript(`
local v = redis.call('get', KEYS[1])
if not v then return 0 end
local generation, times = string.match(v, '^([^:]*):(%d+):')
if not generation then return 0 end
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('set', KEYS[1], generation .. ':' .. (times + 1) .. ':' .. string.format('%.0f', now), 'keepttl')
return 1
`)
