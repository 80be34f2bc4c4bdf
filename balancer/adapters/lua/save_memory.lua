-- Keep the balancer's memory, unless a later holder of the lease has written.
-- KEYS  1 memory
-- ARGV  1 document  2 fence of the writer
-- Returns 1 when it was kept, else 0
local written = tonumber(redis.call('HGET', KEYS[1], 'fence') or '0')
if written and written > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'document', ARGV[1], 'fence', ARGV[2])
return 1
