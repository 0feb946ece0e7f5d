/**
 * A commit of a journal (journal.ts). Argument 1 is the plan as JSON; it refers to fields, ids and names
 * in the other arguments by position and count. Returns the ids of the records, then for each added entry
 * its id, or its name if it is delayed, or '' if nothing was added; null if a condition does not hold. A
 * name is the member of the sorted set of delayed messages, in base64.
 * Invariant: everything happens, or nothing if a condition does not hold.
 * Cost: one command per commit.
 */
import { NOW, type Script } from './lua-scripts.ts';

export const journalScript: Script = {
  name: 'rivuletJournal',
  keys: 0,
  lua: `${NOW}
local plan = cjson.decode(ARGV[1])
local function last(key)
  if redis.call('EXISTS', key) == 0 then return '0-0' end
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then return info[i + 1] end end
end
for _, condition in ipairs(plan['if']) do
  if last(condition[1]) ~= condition[2] then return false end
end
local function at(command, place)
  for i = place[1], place[1] + place[2] - 1 do command[#command + 1] = ARGV[i] end
  return command
end
local chars = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
local function base64(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = string.byte(text, i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for k = 3, 0, -1 do
      local digit = math.floor(n / 64 ^ k) % 64 + 1
      local isThere = k >= 2 or (k == 1 and b) or (k == 0 and c)
      out[#out + 1] = isThere and string.sub(chars, digit, digit) or '='
    end
  end
  return table.concat(out)
end
local replies = {}
for _, place in ipairs(plan.records) do
  replies[#replies + 1] = redis.call(unpack(at({'XADD', plan.key, '*'}, place)))
end
if plan.keep > 0 then redis.call('XTRIM', plan.key, 'MAXLEN', plan.keep) end
for _, effect in ipairs(plan.effects) do
  local key = effect.key
  if effect.kind == 'add' then
    local due = 0
    if effect.later then due = effect.due >= 0 and effect.due or now + effect.delay end
    if effect.there and redis.call('EXISTS', key) == 0 then
      replies[#replies + 1] = ''
    elseif due > now then
      local form = ARGV[effect.later[1]]
      redis.call('ZADD', effect.schedule, due, form)
      redis.call('SADD', effect.scheduled, key)
      replies[#replies + 1] = 's' .. base64(form)
    else
      local add = {'XADD', key}
      if effect.drop then add = {'XADD', key, 'MINID', '~', effect.drop} end
      add[#add + 1] = '*'
      replies[#replies + 1] = redis.call(unpack(at(add, effect.at)))
    end
  elseif effect.kind == 'delete' then
    redis.call(unpack(at({'XDEL', key}, effect.at)))
  elseif effect.kind == 'ack' then
    redis.pcall(unpack(at({'XACK', key}, effect.at)))
    redis.call('XDEL', key, ARGV[effect.at[1] + 1])
  elseif effect.kind == 'zrem' then
    redis.call(unpack(at({'ZREM', key}, effect.at)))
  elseif effect.ms < 0 then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIRE', key, effect.ms)
  end
end
return replies`,
};
