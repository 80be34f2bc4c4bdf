-- Forget workers that have been silent for long, unless they spoke again meanwhile.
-- KEYS  1 alive  2 workers  3 beats  4 holds
-- ARGV  1 latest time of a report that is forgotten  2… (name or "", instance, description) each
-- Returns how many were forgotten
local forgotten = 0
for i = 2, #ARGV, 3 do
  local name, instance, description = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local at = redis.call('ZSCORE', KEYS[1], instance)
  if not at or tonumber(at) <= tonumber(ARGV[1]) then
    redis.call('ZREM', KEYS[1], instance)
    if name ~= '' and redis.call('HGET', KEYS[2], name) == description then
      redis.call('HDEL', KEYS[2], name)
      redis.call('HDEL', KEYS[3], name)
      redis.call('HDEL', KEYS[4], name)
    end
    forgotten = forgotten + 1
  end
end
return forgotten
