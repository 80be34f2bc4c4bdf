-- Note that work is being routed to a queue, so that looks at the fleet see it fill.
-- KEYS  1 routed
-- ARGV  1 queue
-- Returns nothing of use
local now = redis.call('TIME')
return redis.call('ZADD', KEYS[1], now[1], ARGV[1])
