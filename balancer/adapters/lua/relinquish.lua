-- uses: ring
-- Hand a held delivery to another queue: one step in which the old delivery ends, the next
-- generation is set free and the rewritten message lies in its target.
-- KEYS  1 fence  2 unacked  3 unacked_index  4 target list  5 events  6 want  7 held
-- ARGV  1 "running" or "reserved"  2 g of the delivery  3 token ("" reserved without a claim)  4 tag
--       5 rewritten envelope  6 next g  7 event document  8 TTL of a free fence (s)
--       9 first part of our keys  10 separator of priority lists
-- Returns "moved", or why not: "fence" (another run owns or ended it, or its body has begun), "gone"
-- (the broker no longer holds this delivery for us)
local record = redis.call('HMGET', KEYS[1], 'g', 'state', 'claim', 'begun')
local g, state, claim, begun = record[1], record[2], record[3], record[4]
if ARGV[1] == 'running' or (ARGV[3] ~= '' and g == ARGV[2] and state ~= 'free') then
  if claim ~= ARGV[3] or state ~= 'run' then return 'fence' end
  if ARGV[1] == 'reserved' and begun == claim then return 'fence' end
elseif g and (g > ARGV[2] or (g == ARGV[2] and state ~= 'free')) then
  return 'fence'
end
if redis.call('HDEL', KEYS[2], ARGV[4]) ~= 1 then return 'gone' end
redis.call('ZREM', KEYS[3], ARGV[4])
redis.call('SREM', KEYS[7], ARGV[4])
redis.call('RPUSH', KEYS[4], ARGV[5])
ring(ARGV[9], KEYS[4], ARGV[10])
redis.call('HSET', KEYS[1], 'g', ARGV[6], 'state', 'free')
redis.call('HDEL', KEYS[1], 'owner', 'tag', 'claim', 'begun')
redis.call('EXPIRE', KEYS[1], ARGV[8])
redis.call('DEL', KEYS[6])
redis.call('XADD', KEYS[5], 'MAXLEN', '~', 200000, '*', 'e', ARGV[7])
return 'moved'
