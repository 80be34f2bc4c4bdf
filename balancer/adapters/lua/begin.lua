-- Note that the body of a claimed run begins: from now on it is not handed over as one that waits, and
-- when its worker dies it is told from its neighbours that had not begun.
-- KEYS  1 fence
-- ARGV  1 token
-- Returns 1 when the claim still holds, else 0: the body may not begin
local record = redis.call('HMGET', KEYS[1], 'claim', 'state')
if record[1] ~= ARGV[1] or record[2] ~= 'run' then return 0 end
redis.call('HSET', KEYS[1], 'begun', ARGV[1])
return 1
