-- Keep what came after the balancer's memory was written whole, unless a later holder has taken the lease or
-- has written.
-- KEYS  1 memory  2 counter of the lease's holders
-- ARGV  1 document  2 fence of the writer
-- Returns 1 when it was kept, else 0
local fence = tonumber(ARGV[2])
local written = tonumber(redis.call('HGET', KEYS[1], 'fence') or '0')
local taken = tonumber(redis.call('GET', KEYS[2]) or '0')
if (written and written > fence) or (taken and taken > fence) then return 0 end
redis.call('HSET', KEYS[1], 'since', ARGV[1], 'fence', ARGV[2])
return 1
