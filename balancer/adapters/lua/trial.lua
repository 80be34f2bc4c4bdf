-- Let a task that is suspected to end its workers begin only while no other such task runs beside it.
-- KEYS  1 fence  2 trial (who of the suspects runs on this worker)
-- ARGV  1 token  2 task id  3 deaths from which on this holds  4 first part of the keys of fences
--       5 TTL (s)
-- Returns 1 when it may begin, 0 when it has to wait
local record = redis.call('HMGET', KEYS[1], 'claim', 'deaths')
if record[1] ~= ARGV[1] or tonumber(record[2] or '0') < tonumber(ARGV[3]) then return 1 end
local holder = redis.call('HMGET', KEYS[2], 'task', 'claim')
if holder[1] and holder[1] ~= ARGV[2] then
  local its = redis.call('HMGET', ARGV[4] .. holder[1], 'claim', 'state')
  if its[1] == holder[2] and its[2] == 'run' then return 0 end
end
redis.call('HSET', KEYS[2], 'task', ARGV[2], 'claim', ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[5])
return 1
