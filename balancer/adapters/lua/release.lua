-- Give a claim back without an end, so that the same message may be claimed again: the process
-- that ran it is gone, or the task asked to be requeued.
-- KEYS  1 fence
-- ARGV  1 owner (instance)  2 tag  3 TTL (s) of a fence nobody comes back to
-- Returns 1 released, 0 not ours
local record = redis.call('HMGET', KEYS[1], 'owner', 'tag', 'state')
if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] or record[3] ~= 'run' then return 0 end
redis.call('HSET', KEYS[1], 'state', 'free')
redis.call('HINCRBY', KEYS[1], 'lost', 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
