/**
 * What must happen as one, as Lua.
 *
 * All time is the server's own (TIME), so clients whose clocks differ agree. Every script that
 * settles a delivery first looks whether it is still its consumer's, and answers 0 when it is not.
 * Nothing is written before everything that can fail has been looked at. Redis 5 and later replicate
 * the effects, so reading the time before writing is safe.
 */
const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`;

/** Whether the message is pending with this consumer. */
const MINE = `
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)[1]
if not held or held[2] ~= ARGV[2] then return 0 end
`;

/** In whose name messages wait for their time. */
export const PARKED = '~';

export interface Script {
  readonly name: string;
  readonly lua: string;
  readonly keys: number;
}

export const scripts = {
  /**
   * Changes who holds a message and until when. Keys: stream, deadlines. Arguments: group, consumer,
   * id, new consumer, idle time to show, delivery count ('' = as it is), own deadline in
   * milliseconds from now ('' = none, the idle time decides). Answers when that is, or 0.
   */
  hold: {
    name: 'rivuletHold',
    keys: 2,
    lua: `${NOW}${MINE}
local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[4], 0, ARGV[3], 'IDLE', ARGV[5]}
if ARGV[6] ~= '' then table.insert(claim, 'RETRYCOUNT') table.insert(claim, ARGV[6]) end
table.insert(claim, 'JUSTID')
redis.call(unpack(claim))
if ARGV[7] == '' then
  redis.call('ZREM', KEYS[2], ARGV[3])
  return now
end
redis.call('ZADD', KEYS[2], now + ARGV[7], ARGV[3])
return now + ARGV[7]
`,
  },

  /**
   * Takes over what nobody works on. Keys: stream, deadlines. Arguments: group, consumer, idle limit,
   * how many, where to go on looking. First those whose own deadline has passed, then those idle for
   * too long. Answers: now, the next own deadline (-1 = none), where to go on ('-' = from the start),
   * the taken as {id, count, fields}, the ids whose entries are trimmed away.
   */
  take: {
    name: 'rivuletTake',
    keys: 2,
    lua: `${NOW}
local group, consumer, count = ARGV[1], ARGV[2], tonumber(ARGV[4])
local taken, gone = {}, {}
local function take(id, attempts)
  local entry = redis.call('XCLAIM', KEYS[1], group, consumer, 0, id)[1]
  if entry then
    table.insert(taken, {id, attempts + 1, entry[2]})
  else
    redis.call('XACK', KEYS[1], group, id)
    table.insert(gone, id)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, count)) do
  local held = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
  redis.call('ZREM', KEYS[2], id)
  if held then take(id, held[4]) end
end
local cursor = '-'
if #taken < count then
  local page = math.max(100, count)
  local idle = redis.call('XPENDING', KEYS[1], group, 'IDLE', ARGV[3], ARGV[5], '+', page)
  if #idle == page then cursor = '(' .. idle[page][1] end
  for _, held in ipairs(idle) do
    if #taken >= count then
      cursor = held[1]
      break
    end
    if not redis.call('ZSCORE', KEYS[2], held[1]) then take(held[1], held[4]) end
  end
end
local due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {now, due[2] and tonumber(due[2]) or -1, cursor, taken, gone}
`,
  },

  /**
   * Takes again, in order of id, what the group has been given and this process does not hold: of
   * one consumer after a broken connection, of all when a leader of an ordered group begins. Keys:
   * stream, deadlines. Arguments: group, consumer, 1 = of all consumers, how many, after which id,
   * then the ids that are held. What was this consumer's keeps its delivery count. Answers: the id to
   * go on after ('' = that was all), the taken, the gone.
   */
  recover: {
    name: 'rivuletRecover',
    keys: 2,
    lua: `
local group, consumer, count = ARGV[1], ARGV[2], tonumber(ARGV[4])
local known = {}
for i = 6, #ARGV do known[ARGV[i]] = true end
local from = ARGV[5] == '' and '-' or '(' .. ARGV[5]
local query = {'XPENDING', KEYS[1], group, from, '+', count + #ARGV - 5}
if ARGV[3] ~= '1' then table.insert(query, consumer) end
local pending = redis.call(unpack(query))
local taken, gone, last = {}, {}, ''
for _, held in ipairs(pending) do
  if #taken >= count then break end
  last = held[1]
  if not known[last] then
    local mine = held[2] == consumer
    local attempts = mine and held[4] or held[4] + 1
    local entry = redis.call('XCLAIM', KEYS[1], group, consumer, 0, last, 'RETRYCOUNT', attempts)[1]
    redis.call('ZREM', KEYS[2], last)
    if entry then
      table.insert(taken, {last, attempts, entry[2]})
    else
      redis.call('XACK', KEYS[1], group, last)
      table.insert(gone, last)
    end
  end
end
if #pending < count + #ARGV - 5 and (last == '' or last == pending[#pending][1]) then last = '' end
return {last, taken, gone}
`,
  },

  /** Keys: stream, dead letters. Arguments: group, consumer, id, then the fields. Answers 1 or 0. */
  bury: {
    name: 'rivuletBury',
    keys: 2,
    lua: `${MINE}
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 4))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
return 1
`,
  },

  /**
   * Publishes once per id. Keys: stream, the id's key, schedule. Arguments: how long the id is
   * remembered, length limit (0 = none), delay ('' = none), time ('' = none), scheduled form, then
   * the fields. Answers {id, 1 when it was there before}.
   */
  publishOnce: {
    name: 'rivuletPublishOnce',
    keys: 3,
    lua: `${NOW}
local before = redis.call('GET', KEYS[2])
if before then return {before, 1} end
local id
if ARGV[3] == '' and ARGV[4] == '' then
  if ARGV[2] == '0' then
    id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 6))
  else
    id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, 6))
  end
else
  local due = ARGV[4] ~= '' and tonumber(ARGV[4]) or now + ARGV[3]
  redis.call('ZADD', KEYS[3], due, ARGV[5])
  id = string.match(ARGV[5], '^[^|]*')
end
redis.call('SET', KEYS[2], id, 'PX', ARGV[1])
return {id, 0}
`,
  },

  /** Key: schedule. Arguments: delay ('' = none), time, then scheduled forms. Answers when. */
  schedule: {
    name: 'rivuletSchedule',
    keys: 1,
    lua: `${NOW}
local due = ARGV[2] ~= '' and tonumber(ARGV[2]) or now + ARGV[1]
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], due, ARGV[i]) end
return due
`,
  },

  /**
   * Moves what is due from the schedule into the stream. A scheduled form is
   * "name|length limit|lengths of the fields, each ending in a comma|fields". Answers: now, when the
   * next is due (-1 = none), how many were moved.
   */
  release: {
    name: 'rivuletRelease',
    keys: 2,
    lua: `${NOW}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
for _, form in ipairs(due) do
  local limit, lengths, at = string.match(form, '^[^|]*|(%d+)|([%d,]*)|()')
  local add = {'XADD', KEYS[2]}
  if limit ~= '0' then
    table.insert(add, 'MAXLEN') table.insert(add, '~') table.insert(add, limit)
  end
  table.insert(add, '*')
  for length in string.gmatch(lengths, '%d+') do
    table.insert(add, string.sub(form, at, at + length - 1))
    at = at + length
  end
  redis.call(unpack(add))
  redis.call('ZREM', KEYS[1], form)
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {now, next[2] and tonumber(next[2]) or -1, #due}
`,
  },

  /** Sends a dead letter back. Keys: dead letters, stream. Arguments: id, then the fields. */
  redrive: {
    name: 'rivuletRedrive',
    keys: 2,
    lua: `
if redis.call('XLEN', KEYS[1]) == 0 or #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return 0
end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
`,
  },

  /** Takes or keeps the lead. Key: leader. Arguments: consumer, milliseconds. Answers 1 or 0. */
  lead: {
    name: 'rivuletLead',
    keys: 1,
    lua: `
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
`,
  },

  /** Gives the lead up. Key: leader. Argument: consumer. */
  yieldLead: {
    name: 'rivuletYieldLead',
    keys: 1,
    lua: `
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
`,
  },

  /** Removes consumers that own nothing and have been silent. Key: stream. Arguments: group, milliseconds. */
  tidy: {
    name: 'rivuletTidy',
    keys: 1,
    lua: `
local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for i = 1, #consumer, 2 do about[consumer[i]] = consumer[i + 1] end
  if about.pending == 0 and about.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
    removed = removed + 1
  end
end
return removed
`,
  },
} as const satisfies Record<string, Script>;
