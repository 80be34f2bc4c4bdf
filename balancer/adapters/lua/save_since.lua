-- uses: superseded
-- Keep what came after the balancer's memory was written whole, unless a later holder has taken the lease or
-- has written.
-- KEYS  1 memory  2 counter of the lease's holders
-- ARGV  1 document  2 fence of the writer
-- Returns 1 when it was kept, else 0
if superseded(KEYS[1], KEYS[2], tonumber(ARGV[2])) then return 0 end
redis.call('HSET', KEYS[1], 'since', ARGV[1], 'fence', ARGV[2])
return 1
