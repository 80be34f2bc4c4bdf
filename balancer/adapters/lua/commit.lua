-- Commit the end of a run: taken only while the token still holds.
-- KEYS  1 fence  2 events  3 state (checkpoint)
-- ARGV  1 token  2 "fin" (result still to be stored), "again" (the task comes back as another
--       generation: its checkpoint stays) or "done"  3 kept value or ""  4 event document
--       5 event document when refused  6 TTL of a done fence (s)  7 g of the delivery ("" unknown)
-- Returns 1 taken (also when it was taken before and the answer was lost), 0 refused
local record = redis.call('HMGET', KEYS[1], 'claim', 'state')
if record[1] == ARGV[1] and (record[2] == 'fin' or record[2] == 'done') then return 1 end
-- A retry, or a task that replaced itself: its next generation is no copy of one that has ended.
local again = ARGV[2] == 'again' or string.find(ARGV[4], '"outcome":"ignored"', 1, true)
-- A process that is gone has given its claim back; its worker may still have sent the task again.
if record[1] ~= ARGV[1] or not (record[2] == 'run' or (ARGV[2] == 'again' and record[2] == 'free')) then
  -- Its own retry, or what it has replaced itself with, was published and has been claimed already:
  -- that nesting or count of retries comes only from a run that had the claim.
  local g = redis.call('HGET', KEYS[1], 'g')
  if again and ARGV[7] and ARGV[7] ~= '' and g
     and string.sub(g, 1, 13) > string.sub(ARGV[7], 1, 13) then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', 200000, '*', 'e', ARGV[4])
    return 1
  end
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 200000, '*', 'e', ARGV[5])
  return 0
end
redis.call('HSET', KEYS[1], 'state', ARGV[2] == 'fin' and 'fin' or 'done')
if again then redis.call('HSET', KEYS[1], 'again', '1') end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'value', ARGV[3]) end
if ARGV[2] ~= 'fin' then redis.call('EXPIRE', KEYS[1], ARGV[6]) end
if ARGV[2] == 'done' then redis.call('DEL', KEYS[3]) end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 200000, '*', 'e', ARGV[4])
return 1
