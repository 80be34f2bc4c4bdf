-- uses: dead
-- Who is gone and still holds deliveries, and how much of recovery is left undone.
-- KEYS  1 alive  2 failed tasks whose client was not told yet  3 silence
-- ARGV  1 first part of the keys of held sets  2 age limit of a report (s)
-- Returns {how many clients are to be told, instance, …}
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local gone = dead(KEYS[1], ARGV[1], KEYS[3], tonumber(ARGV[2]), now, newest)
return {redis.call('SCARD', KEYS[2]), unpack(gone)}
