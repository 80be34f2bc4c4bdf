-- The result of a run is stored: the fence needs to be remembered only for a while.
-- KEYS  1 fence  2 state (checkpoint)  3 want
-- ARGV  1 token  2 TTL (s)
-- Returns 1 settled, 0 when another run has the fence or the task has left
-- A run that was cut off inside its commit (a soft time limit) has a stored result, too.
local record = redis.call('HMGET', KEYS[1], 'claim', 'state')
if record[1] ~= ARGV[1] or (record[2] ~= 'fin' and record[2] ~= 'run') then return 0 end
redis.call('HSET', KEYS[1], 'state', 'done')
redis.call('HDEL', KEYS[1], 'value')
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[2], KEYS[3])
return 1
