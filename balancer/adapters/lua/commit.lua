-- Commit the end of a run: taken only while the token still holds.
-- KEYS  1 fence  2 events  3 state (checkpoint)
-- ARGV  1 token  2 "fin" (result still to be stored), "again" (the task comes back as another
--       generation: its checkpoint stays) or "done"  3 kept value or ""  4 event document
--       5 event document when refused  6 TTL of a done fence (s)
-- Returns 1 taken (also when it was taken before and the answer was lost), 0 refused
local record = redis.call('HMGET', KEYS[1], 'claim', 'state')
if record[1] == ARGV[1] and (record[2] == 'fin' or record[2] == 'done') then return 1 end
if record[1] ~= ARGV[1] or record[2] ~= 'run' then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 200000, '*', 'e', ARGV[5])
  return 0
end
redis.call('HSET', KEYS[1], 'state', ARGV[2] == 'fin' and 'fin' or 'done')
-- A retry, or a task that replaced itself: its next generation is no copy of one that has ended.
if ARGV[2] == 'again' or string.find(ARGV[4], '"outcome":"ignored"', 1, true) then
  redis.call('HSET', KEYS[1], 'again', '1')
end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'value', ARGV[3]) end
if ARGV[2] ~= 'fin' then redis.call('EXPIRE', KEYS[1], ARGV[6]) end
if ARGV[2] == 'done' then redis.call('DEL', KEYS[3]) end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 200000, '*', 'e', ARGV[4])
return 1
