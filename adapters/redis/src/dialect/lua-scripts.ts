/**
 * The atomic operations on Redis and Valkey, as Lua scripts.
 *
 * All times are the server's (TIME), so clients with different clocks agree. Invariants: a script that
 * settles a delivery first checks that it belongs to its consumer, and returns 0 if it does not. A script
 * writes only after every check that can fail. Redis 5 and later replicate effects, so reading the time
 * before writing is safe.
 * Cost: one command each; at most 100 or 1000 messages per call.
 */
export const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`;

/** Whether the message is pending with this consumer. */
const MINE = `
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)[1]
if not held or held[2] ~= ARGV[2] then return 0 end
`;

/** The consumer name of messages that wait for their retry. */
export const PARKED = '~';
/** The consumer name of messages whose consumer died: one of them may have ended its process. */
export const SUSPECT = '~~';

/**
 * Moves the pending messages of a dead consumer to SUSPECT. Redis has counted their last delivery. It
 * counts as an attempt for the first ones, as many as the consumer had handlers; its name ends in `*`
 * and that number. The others were fetched ahead of a handler, so their delivery is not counted. Adds to
 * `gone` what was trimmed: the server drops it.
 */
const SUSPECTS = `
local function suspect(group, owner, gone, idle)
  local handlers = tonumber(string.match(owner, '%*(%d+)$') or 1)
  for i, held in ipairs(redis.call('XPENDING', KEYS[1], group, '-', '+', 1000, owner)) do
    -- One that a handler has had is idle for less long than those that were fetched ahead with it.
    if not idle or held[3] >= tonumber(idle) then
      local count = held[4]
      if i > handlers then count = math.max(0, count - 1) end
      local claimed = redis.call('XCLAIM', KEYS[1], group, '${SUSPECT}', 0, held[1], 'IDLE', held[3],
        'RETRYCOUNT', count, 'JUSTID')
      if #claimed == 0 then table.insert(gone, held[1]) end
    elseif i > handlers then
      -- It moves later, when those before it have left, and would be the first one: its last delivery must not
      -- count then. Where several moves take one off each, the message has attempts more, never fewer.
      redis.call('XCLAIM', KEYS[1], group, owner, 0, held[1], 'IDLE', held[3],
        'RETRYCOUNT', math.max(0, held[4] - 1), 'JUSTID')
    end
  end
end
`;

export interface Script {
  readonly name: string;
  readonly lua: string;
  /** How many of its arguments are keys. */
  readonly keys: number | 'all';
}

export const scripts = {
  /**
   * Changes the owner and deadline of a pending message. Keys: stream, deadlines. Arguments: group, consumer,
   * id, new consumer, idle time to show, delivery count ('' = as it is), own deadline in
   * milliseconds from now ('' = none, the idle time decides). Returns the time of the deadline, or 0.
   */
  changeClaim: {
    name: 'rivuletChangeClaim',
    keys: 2,
    lua: `${NOW}${MINE}
local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[4], 0, ARGV[3], 'IDLE', ARGV[5]}
if ARGV[6] ~= '' then table.insert(claim, 'RETRYCOUNT') table.insert(claim, ARGV[6]) end
table.insert(claim, 'JUSTID')
-- What was trimmed meanwhile is no longer pending after this.
if #redis.call(unpack(claim)) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[3])
  return 0
end
if ARGV[7] == '' then
  redis.call('ZREM', KEYS[2], ARGV[3])
  return now
end
redis.call('ZADD', KEYS[2], now + ARGV[7], ARGV[3])
return now + ARGV[7]
`,
  },

  /**
   * Claims messages that are due: first those whose own deadline has passed, then those that are idle for
   * too long. Keys: stream, deadlines. Arguments: group, consumer, idle limit, count, cursor. Returns:
   * now, the next own deadline (-1 = none), the next cursor ('-' = the start), the claimed messages as
   * {id, count, fields, 1 if its consumer died}, and the ids whose entries were trimmed.
   */
  claimDue: {
    name: 'rivuletClaimDue',
    keys: 2,
    lua: `${NOW}${SUSPECTS}
local group, consumer, count = ARGV[1], ARGV[2], tonumber(ARGV[4])
local taken, gone = {}, {}
local function take(id, attempts, suspected)
  local entry = redis.call('XCLAIM', KEYS[1], group, consumer, 0, id)[1]
  if entry then
    table.insert(taken, {id, attempts + 1, entry[2], suspected})
  else
    redis.call('XACK', KEYS[1], group, id)
    table.insert(gone, id)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, count)) do
  -- Another program may have put something here that is no id.
  local pending = redis.pcall('XPENDING', KEYS[1], group, id, id, 1)
  if pending.err and not string.match(pending.err, 'Invalid stream ID') then return pending end
  redis.call('ZREM', KEYS[2], id)
  local held = not pending.err and pending[1]
  if held then take(id, held[4], held[2] == '${PARKED}' and 0 or 1) end
end
local cursor = '-'
if #taken < count then
  local page = math.max(100, count)
  local idle = redis.call('XPENDING', KEYS[1], group, 'IDLE', ARGV[3], ARGV[5], '+', page)
  local known = {['${PARKED}'] = true, ['${SUSPECT}'] = true}
  local vanished = false
  for _, held in ipairs(idle) do
    if not known[held[2]] and not redis.call('ZSCORE', KEYS[2], held[1]) then
      known[held[2]] = true
      vanished = true
      suspect(group, held[2], gone, ARGV[3])
    end
  end
  if vanished then
    idle = redis.call('XPENDING', KEYS[1], group, 'IDLE', ARGV[3], ARGV[5], '+', page)
  end
  if #idle == page then cursor = '(' .. idle[page][1] end
  for _, held in ipairs(idle) do
    if #taken >= count then
      cursor = held[1]
      break
    end
    if not redis.call('ZSCORE', KEYS[2], held[1]) then
      take(held[1], held[4], held[2] == '${PARKED}' and 0 or 1)
    end
  end
end
local due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {now, due[2] and tonumber(due[2]) or -1, cursor, taken, gone}
`,
  },

  /**
   * Claims pending messages in order of id: of this consumer after a lost connection, or of all consumers
   * when a leader of an ordered group begins. Keys: stream, deadlines. Arguments: group, consumer, 1 = of
   * all consumers, count, the id to begin after, then the ids to leave out. A message of this consumer
   * keeps its count. Returns: the id to continue after ('' = none is left), the claimed messages, and the
   * ids whose entries were trimmed.
   */
  recover: {
    name: 'rivuletRecover',
    keys: 2,
    lua: `${SUSPECTS}
local HELD = 6
local group, consumer, count = ARGV[1], ARGV[2], tonumber(ARGV[4])
local known = {}
for i = HELD, #ARGV do known[ARGV[i]] = true end
local taken, gone, last = {}, {}, ''
if ARGV[3] == '1' and ARGV[5] == '' then
  for _, owner in ipairs(redis.call('XPENDING', KEYS[1], group)[4] or {}) do
    local name = owner[1]
    if name ~= consumer and name ~= '${PARKED}' and name ~= '${SUSPECT}' then
      suspect(group, name, gone)
    end
  end
end
local from = ARGV[5] == '' and '-' or '(' .. ARGV[5]
local page = count + #ARGV - HELD + 1
local query = {'XPENDING', KEYS[1], group, from, '+', page}
if ARGV[3] ~= '1' then table.insert(query, consumer) end
local pending = redis.call(unpack(query))
for _, held in ipairs(pending) do
  if #taken >= count then break end
  last = held[1]
  if not known[last] then
    local attempts = held[2] == consumer and math.max(1, held[4]) or held[4] + 1
    local entry = redis.call('XCLAIM', KEYS[1], group, consumer, 0, last, 'RETRYCOUNT', attempts)[1]
    redis.call('ZREM', KEYS[2], last)
    if entry then
      table.insert(taken, {last, attempts, entry[2], held[2] == '${SUSPECT}' and 1 or 0})
    else
      redis.call('XACK', KEYS[1], group, last)
      table.insert(gone, last)
    end
  end
end
if #pending < page and (last == '' or last == pending[#pending][1]) then last = '' end
return {last, taken, gone}
`,
  },

  /**
   * Reads new messages of many streams, at most `count` in total. Keys: the streams. Arguments: group,
   * consumer, count, the stream to begin at, 1 = count their delivery, 0 = do not. Returns for each stream
   * its entries, and the last id that was delivered to the group, or the error.
   */
  sweep: {
    name: 'rivuletSweep',
    keys: 'all',
    lua: `
local room, first = tonumber(ARGV[3]), tonumber(ARGV[4])
local found, upTo = {}, {}
for i = 1, #KEYS do found[i] = {} upTo[i] = '' end
local progress = true
while progress and room > 0 do
  progress = false
  for i = 1, #KEYS do
    local at = (first + i - 1) % #KEYS + 1
    if room > 0 and type(upTo[at]) == 'string' then
      local reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[at], '>')
      if reply and reply.err then
        upTo[at] = {reply.err}
      elseif reply and reply[1] then
        local entry = reply[1][2][1]
        if ARGV[5] == '0' then
          redis.call('XCLAIM', KEYS[at], ARGV[1], ARGV[2], 0, entry[1], 'RETRYCOUNT', 0, 'JUSTID')
        end
        table.insert(found[at], entry)
        room = room - 1
        progress = true
      end
    end
  end
end
for i = 1, #KEYS do
  if type(upTo[i]) == 'string' then
    local groups = redis.pcall('XINFO', 'GROUPS', KEYS[i])
    if groups.err then
      upTo[i] = {groups.err}
    else
      for _, facts in ipairs(groups) do
        local about = {}
        for j = 1, #facts, 2 do about[facts[j]] = facts[j + 1] end
        if about.name == ARGV[1] then upTo[i] = about['last-delivered-id'] end
      end
    end
  end
end
return {found, upTo}
`,
  },

  /** Keys: stream, dead letters. Arguments: group, consumer, id, then the fields. Returns 1 or 0. */
  deadLetter: {
    name: 'rivuletDeadLetter',
    keys: 2,
    lua: `${MINE}
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 4))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
return 1
`,
  },

  /**
   * Publishes once per id. Keys: stream, ids, times of the ids, schedule. Arguments: id, window in ms,
   * length limit (0 = none), delay ('' = none), time ('' = none), scheduled form, then the fields. Returns
   * {id, 1 if it was published before, 1 if the schedule was empty}. Deleting a topic deletes its ids.
   */
  publishOnce: {
    name: 'rivuletPublishOnce',
    keys: 4,
    lua: `${NOW}
local before = redis.call('HGET', KEYS[2], ARGV[1])
if before and tonumber(redis.call('ZSCORE', KEYS[3], ARGV[1]) or 0) > now then
  return {before, 1, 0}
end
local id
local first = 0
if ARGV[4] == '' and ARGV[5] == '' then
  if ARGV[3] == '0' then
    id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 7))
  else
    id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, 7))
  end
else
  local due = ARGV[5] ~= '' and tonumber(ARGV[5]) or now + ARGV[4]
  local order = string.format('%.0f%06d ', time[1] * 1000000 + time[2], 0)
  redis.call('ZADD', KEYS[4], due, order .. ARGV[6])
  id = string.match(ARGV[6], '^[^|]*')
  if redis.call('ZCARD', KEYS[4]) == 1 then first = 1 end
end
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('HDEL', KEYS[2], old)
  redis.call('ZREM', KEYS[3], old)
end
redis.call('HSET', KEYS[2], ARGV[1], id)
redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])
local keep = math.max(tonumber(ARGV[2]), redis.call('PTTL', KEYS[3]))
redis.call('PEXPIRE', KEYS[2], keep)
redis.call('PEXPIRE', KEYS[3], keep)
return {id, 0, first}
`,
  },

  /**
   * Adds delayed messages. Key: schedule. Arguments: delay ('' = none), time, then scheduled forms, whose
   * order is kept. Returns 1 if the schedule was empty.
   */
  schedule: {
    name: 'rivuletSchedule',
    keys: 1,
    lua: `${NOW}
local due = ARGV[2] ~= '' and tonumber(ARGV[2]) or now + ARGV[1]
local micros = time[1] * 1000000 + time[2]
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[1], due, string.format('%.0f%06d ', micros, i) .. ARGV[i])
end
return redis.call('ZCARD', KEYS[1]) == #ARGV - 2 and 1 or 0
`,
  },

  /**
   * Moves due messages from the schedule into the stream. Keys: schedule, stream, dead letters. Argument:
   * the headers of a dead letter, which a member without scheduled form becomes. The scheduled form is
   * "order name|length limit|lengths of the fields, each followed by a comma|fields". Returns: now, the
   * time of the next message (-1 = none), how many were moved, how many became dead letters, and the
   * error that stopped it ('' = none).
   */
  release: {
    name: 'rivuletRelease',
    keys: 3,
    lua: `${NOW}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
local moved, buried, failure = 0, 0, ''
for _, form in ipairs(due) do
  local limit, lengths, at = string.match(form, '^[^|]*|(%d+)|([%d,]*)|()')
  local add, fields = {'XADD', KEYS[2]}, 0
  if limit then
    if limit ~= '0' then
      table.insert(add, 'MAXLEN') table.insert(add, '~') table.insert(add, limit)
    end
    table.insert(add, '*')
    for length in string.gmatch(lengths, '%d+') do
      table.insert(add, string.sub(form, at, at + length - 1))
      at = at + length
      fields = fields + 1
    end
  end
  local isOurs = limit and fields > 0 and fields % 2 == 0 and fields < 100 and at == #form + 1
  if not isOurs then add = {'XADD', KEYS[3], '*', 'headers', ARGV[1], 'body', form} end
  local done = redis.pcall(unpack(add))
  if type(done) == 'table' and done.err then
    failure = done.err
    break
  end
  redis.call('ZREM', KEYS[1], form)
  if isOurs then moved = moved + 1 else buried = buried + 1 end
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {now, next[2] and tonumber(next[2]) or -1, moved, buried, failure}
`,
  },

  /** Moves a dead letter back to its topic. Keys: dead letters, stream. Arguments: id, then the fields. */
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

  /** Acquires or renews the lead. Key: leader. Arguments: consumer, milliseconds. Returns 1 or 0. */
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

  /** Releases the lead. Key: leader. Argument: consumer. */
  yieldLead: {
    name: 'rivuletYieldLead',
    keys: 1,
    lua: `
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
`,
  },

  /** Removes idle consumers without pending messages. Key: stream. Arguments: group, milliseconds. */
  removeIdleConsumers: {
    name: 'rivuletRemoveIdleConsumers',
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
