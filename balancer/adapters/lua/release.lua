-- Give a claim back without an end, so that the same message may be claimed again: the process
-- that ran it is gone, or the task asked to be requeued.
-- KEYS  1 fence
-- ARGV  1 owner (instance)  2 tag  3 TTL (s) of a fence nobody comes back to
--       4 token of the run ("" whichever this owner has under this tag)  5 "lost" to count it
-- Returns how often a process was lost since the last checkpoint, -1 when the claim is not ours
-- What was committed stays so: the next claim is answered with the kept value.
local record = redis.call('HMGET', KEYS[1], 'owner', 'tag', 'state', 'claim')
local owner, tag, state, claim = unpack(record)
if (owner and owner ~= ARGV[1]) or tag ~= ARGV[2] then return -1 end
if ARGV[4] ~= '' and claim ~= ARGV[4] then return -1 end
if state ~= 'run' and state ~= 'fin' and state ~= 'free' then return -1 end
if state == 'run' then redis.call('HSET', KEYS[1], 'state', 'free') end
-- A process that was told to end has given its claim back before its loss is noted.
if state ~= 'fin' and ARGV[5] == 'lost' then redis.call('HINCRBY', KEYS[1], 'lost', 1) end
redis.call('HDEL', KEYS[1], 'owner')
redis.call('EXPIRE', KEYS[1], ARGV[3])
return tonumber(redis.call('HGET', KEYS[1], 'lost') or '0')
