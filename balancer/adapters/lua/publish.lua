-- Publish a worker's heartbeat: it is alive, its numbers, and what of it changed.
-- KEYS  1 alive  2 beats  3 workers  4 holds  5 unacked_index
-- ARGV  1 worker name  2 instance  3 packed beat  4 description or ""  5 holds or ""
--       6 the worker's clock  7… delivery tags it still holds
-- Returns the server's clock {seconds, microseconds}
-- Tags are renewed with XX, so that one that was acked meanwhile does not come back to life.
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%d.%06d', now[1], now[2]), ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[3], ARGV[1], ARGV[4]) end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[4], ARGV[1], ARGV[5]) end
for i = 7, #ARGV do
  redis.call('ZADD', KEYS[5], 'XX', ARGV[6], ARGV[i])
end
return now
