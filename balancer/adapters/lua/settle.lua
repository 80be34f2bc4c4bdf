-- The result of a committed run is stored: the fence needs to be remembered only for a while.
-- KEYS  1 fence  2 state (checkpoint)  3 want
-- ARGV  1 token  2 TTL (s)
-- Returns 1 settled, 0 when another run has the fence
local record = redis.call('HMGET', KEYS[1], 'n', 'state')
if record[1] ~= ARGV[1] or record[2] ~= 'fin' then return 0 end
redis.call('HSET', KEYS[1], 'state', 'done')
redis.call('HDEL', KEYS[1], 'value')
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[2], KEYS[3])
return 1
