-- uses: ring
-- Move messages that are still there, each to a list of its own; the raw message is compared.
-- KEYS  1 list to take from  2… a list to put into for each message
-- ARGV  1 "front" or "back"  2 direction of the search: 1 from the end served last, -1 from the other
--       3 first part of our keys  4 separator  5… the messages as they were read
-- Returns how many moved
local moved = 0
local push = ARGV[1] == 'front' and 'RPUSH' or 'LPUSH'
for i = 5, #ARGV do
  if redis.call('LREM', KEYS[1], ARGV[2], ARGV[i]) == 1 then
    redis.call(push, KEYS[i - 3], ARGV[i])
    ring(ARGV[3], KEYS[i - 3], ARGV[4])
    moved = moved + 1
  end
end
return moved
