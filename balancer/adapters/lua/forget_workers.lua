-- Forget workers that have been silent for long, unless they spoke again meanwhile.
-- KEYS  1 alive  2 workers  3 beats  4 holds  5 board  6 places  7 free places
-- ARGV  1 latest time of a report that is forgotten  2 first part of the keys of held sets
--       3… (name or "", instance, description) each
-- Returns how many were forgotten
-- One that still holds deliveries stays in `alive`, as silent since ever: what it holds is given back.
local forgotten = 0
for i = 3, #ARGV, 3 do
  local name, instance, description = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local at = redis.call('ZSCORE', KEYS[1], instance)
  if not at or tonumber(at) <= tonumber(ARGV[1]) then
    if redis.call('EXISTS', ARGV[2] .. instance) == 1 then
      redis.call('ZADD', KEYS[1], 0, instance)
    else
      redis.call('ZREM', KEYS[1], instance)
    end
    if name ~= '' and redis.call('HGET', KEYS[2], name) == description then
      redis.call('HDEL', KEYS[2], name)
      redis.call('HDEL', KEYS[3], name)
      redis.call('HDEL', KEYS[4], name)
      local place = redis.call('HGET', KEYS[6], name)
      if place then
        redis.call('HDEL', KEYS[6], name)
        redis.call('SETRANGE', KEYS[5], tonumber(place) * 159, string.rep('\0', 159))
        redis.call('LPUSH', KEYS[7], place)
      end
    end
    forgotten = forgotten + 1
  end
end
return forgotten
