-- uses: ring
-- Give back what an instance holds that is gone, or that no longer knows of it: each delivery ends
-- here and its message lies in a queue, or it is dropped or set aside, in one step.
-- KEYS  1 alive  2 held set of the instance  3 unacked  4 unacked_index  5 events  6 failed
--       7 failed tasks whose client was not told yet  8… fence, target list, want of each delivery
-- ARGV  1 "dead" (only while it is silent) or "own" (it asks itself)  2 instance  3 age limit (s)
--       4 first part of our keys  5 the broker's separator  6 TTL of a free fence (s)
--       7 TTL of a done fence (s)
--       8… for each delivery, nine: tag, action, fence as it was read (without one: "ask" where another
--       may hold the tag, ""), task id, next g, deaths, whom it lost, document (envelope, or what is
--       kept of a task set aside), event document or ""
-- Actions: push (the next generation is free), answer (committed: the same generation, so that the
--   next claim is answered), plain (not balanced), drop (it has ended), leave (its entry backs a
--   live worker's run), aside (it will not run again by itself), unread (no message)
-- Returns for each delivery what was done: the action, "gone" (somebody else did it, or it was
--   acknowledged), "changed" (the fence is not as it was read: look again), or {"alive"} alone
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
if ARGV[1] == 'dead' then
  local seen = redis.call('ZSCORE', KEYS[1], ARGV[2])
  if seen and now - tonumber(seen) <= tonumber(ARGV[3]) then return {'alive'} end
end

local function tell(event)
  if event ~= '' then redis.call('XADD', KEYS[5], 'MAXLEN', '~', 200000, '*', 'e', event) end
end

-- A tag survives a restore by kombu: the entry may back a delivery of another worker by now. The fence
-- tells of balanced tasks; of others only the sets do, which costs a look for each live worker.
local function held_elsewhere(tag)
  local from = string.format('(%.6f', now - tonumber(ARGV[3]))
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], from, '+inf')) do
    if other ~= ARGV[2] and redis.call('SISMEMBER', ARGV[4] .. 'held:' .. other, tag) == 1 then return true end
  end
  return false
end

local function same(fence, read)
  local fields = redis.call('HMGET', fence, 'g', 'state', 'owner', 'tag', 'claim', 'deaths', 'begun')
  for i = 1, 7 do fields[i] = fields[i] or '' end
  return table.concat(fields, '\n') == read
end

local function free(fence, want, g, deaths, died)
  redis.call('HSET', fence, 'g', g, 'state', 'free')
  if tonumber(deaths) > 0 then redis.call('HSET', fence, 'deaths', deaths, 'died', died) end
  redis.call('HDEL', fence, 'owner', 'tag', 'claim', 'begun', 'started', 'value')
  redis.call('EXPIRE', fence, ARGV[6])
  redis.call('DEL', want)
end

local function close(fence, deaths)
  redis.call('HSET', fence, 'state', 'done', 'deaths', deaths)
  redis.call('HDEL', fence, 'owner', 'tag', 'claim', 'begun', 'started', 'value')
  redis.call('EXPIRE', fence, ARGV[7])
end

local out = {}
for i = 8, #ARGV, 9 do
  local tag, action, read, id, g, deaths, died, document, event = unpack(ARGV, i, i + 8)
  local k = 8 + (i - 8) / 9 * 3
  local fence, list, want = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local balanced = action == 'push' or action == 'answer' or action == 'aside'
  local done = action
  if redis.call('HEXISTS', KEYS[3], tag) == 0 then
    done = 'gone'
  elseif read == 'ask' and held_elsewhere(tag) then
    done = 'leave'
  elseif (balanced or action == 'drop') and not same(fence, read) then
    done = 'changed'
  end
  if done ~= 'changed' then redis.call('SREM', KEYS[2], tag) end
  if done == action and action ~= 'leave' then
    redis.call('HDEL', KEYS[3], tag)
    redis.call('ZREM', KEYS[4], tag)
    if action == 'push' or action == 'answer' or action == 'plain' then
      redis.call('RPUSH', list, document)
      ring(ARGV[4], list, ARGV[5])
    end
    if action == 'push' then
      free(fence, want, g, deaths, died)
    elseif action == 'answer' then
      redis.call('HDEL', fence, 'owner', 'tag')
    elseif action == 'aside' then
      close(fence, deaths)
      redis.call('HSET', KEYS[6], id, document)
      redis.call('SADD', KEYS[7], id)
    elseif action == 'unread' then
      redis.call('HSET', KEYS[6], id, document)
    end
    tell(event)
  end
  out[#out + 1] = done
end
return out
