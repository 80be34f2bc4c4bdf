-- Remove a memory that cannot be read, unless it was written anew meanwhile. Its fence stays.
-- KEYS  1 memory
-- ARGV  1 the document as it was read, "" where there is none or the key is of another type
-- Returns 1 when it was removed, else 0
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return redis.call('DEL', KEYS[1]) end
if (redis.call('HGET', KEYS[1], 'document') or '') ~= ARGV[1] then return 0 end
local fence = redis.call('HGET', KEYS[1], 'fence')
redis.call('DEL', KEYS[1])
if fence then redis.call('HSET', KEYS[1], 'fence', fence) end
return 1
