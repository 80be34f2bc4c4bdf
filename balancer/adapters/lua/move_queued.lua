-- uses: ring
-- Move messages from the end of a list that is served last, envelopes untouched.
-- KEYS  1 list to take from  2 list to put into, of the same priority
-- ARGV  1 how many at most  2 where to: "front", "back", or "auto" (front while the list is empty,
--       which keeps the order over several calls)  3 first part of our keys  4 separator
-- Returns {how many moved, where they went}
-- The left end is served last, so no consumer is about to take what moves.
local place = ARGV[2]
if place == 'auto' then place = redis.call('LLEN', KEYS[2]) == 0 and 'front' or 'back' end
local messages = redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)
local count = #messages
if count == 0 then return {0, place} end
local push = 'RPUSH'
if place ~= 'front' then
  push = 'LPUSH'
  for i = 1, math.floor(count / 2) do
    messages[i], messages[count + 1 - i] = messages[count + 1 - i], messages[i]
  end
end
-- Many at once: a call for each costs as much as the message itself.
for i = 1, count, 100 do
  redis.call(push, KEYS[2], unpack(messages, i, math.min(i + 99, count)))
end
redis.call('LTRIM', KEYS[1], count, -1)
for _ = 1, count do
  if ring(ARGV[3], KEYS[2], ARGV[4]) == 0 then break end
end
return {count, place}
