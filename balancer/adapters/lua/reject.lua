-- uses: ring
-- Give up a delivery whose claim was taken with it: put its message back, or drop it.
-- KEYS  1 fence  2 unacked  3 unacked_index  4 held  5 state (checkpoint)  6 want  7… lists to push into
-- ARGV  1 token  2 tag  3 owner (instance)  4 TTL (s) of a done fence  5 TTL (s) of a free fence
--       6 message to put back  7 "front" or "back"  8 first part of our keys  9 separator of priority lists
-- Returns 1 put back or dropped, 0 another run has the task: only our delivery is gone, 2 the entry
-- stays: it backs another run, or the message was put back before
-- A run that had not committed is free for the next delivery; what was committed stays so.
local record = redis.call('HMGET', KEYS[1], 'claim', 'state', 'tag', 'owner')
local claimed, stage, tag, owner = record[1], record[2], record[3], record[4]
local ours = claimed == ARGV[1] or not stage
if not ours and claimed and tag == ARGV[2] and stage ~= 'done' then
  if owner ~= ARGV[3] then redis.call('SREM', KEYS[4], ARGV[2]) end
  return 2
end
local there = redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('SREM', KEYS[4], ARGV[2])
if not ours then return 0 end
if stage == 'run' or (stage == 'fin' and #KEYS > 6) then
  if stage == 'run' then redis.call('HSET', KEYS[1], 'state', 'free') end
  redis.call('HDEL', KEYS[1], 'owner', 'begun')
  redis.call('EXPIRE', KEYS[1], ARGV[5])
elseif stage == 'fin' then
  redis.call('HSET', KEYS[1], 'state', 'done')
  redis.call('HDEL', KEYS[1], 'value')
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  redis.call('DEL', KEYS[5], KEYS[6])
end
if there == 0 then return 2 end
for i = 7, #KEYS do
  redis.call(ARGV[7] == 'front' and 'RPUSH' or 'LPUSH', KEYS[i], ARGV[6])
  ring(ARGV[8], KEYS[i], ARGV[9])
end
return 1
