-- uses: ring
-- Send a task that was set aside again: its fence is opened for the next generation.
-- KEYS  1 failed  2 failed tasks whose client was not told yet  3 fence  4 target list
-- ARGV  1 task id  2 its entry as it was read  3 envelope  4 next g  5 TTL of a free fence (s)
--       6 first part of our keys  7 the broker's separator
-- Returns 1 when it was sent, 0 when its entry is gone or another by now
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[3], 'g', ARGV[4], 'state', 'free')
redis.call('HDEL', KEYS[3], 'owner', 'tag', 'claim', 'value', 'begun', 'started', 'deaths', 'died', 'lost')
redis.call('EXPIRE', KEYS[3], ARGV[5])
redis.call('LPUSH', KEYS[4], ARGV[3])
ring(ARGV[6], KEYS[4], ARGV[7])
return 1
