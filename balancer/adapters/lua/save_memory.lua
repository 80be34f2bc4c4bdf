-- uses: superseded
-- Keep the balancer's memory, unless a later holder has taken the lease or has written.
-- KEYS  1 memory  2 counter of the lease's holders
-- ARGV  1 document  2 fence of the writer  3 stamp of this write  4 stamp of the write that left the columns
--       it goes on with, or "" when all are sent  5 how many fields and texts of new columns follow, field
--       and text in turn; what is left are fields of columns to drop
-- Returns 1 when it was kept, 2 when other columns lie there, else 0
if superseded(KEYS[1], KEYS[2], tonumber(ARGV[2])) then return 0 end
if ARGV[4] == '' then
  redis.call('DEL', KEYS[1])
elseif redis.call('HGET', KEYS[1], 'stamp') ~= ARGV[4] then
  return 2
end
redis.call('HSET', KEYS[1], 'document', ARGV[1], 'fence', ARGV[2], 'stamp', ARGV[3])
local last = 5 + tonumber(ARGV[5])
for i = 6, last, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = last + 1, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
redis.call('HDEL', KEYS[1], 'since')
return 1
