-- uses: store
-- Commit a run and store its result in one step, where both are kept by the same server.
-- KEYS  1 fence  2 events  3 state (checkpoint)  4 want  5 result
-- ARGV  1 token  2 TTL (s) of a done fence  3 result document  4 its TTL (s), "0" none
--       5 event document  6 event document when refused
-- Returns 1 stored (also when it was before and the answer was lost), 0 refused, 2 not done: there is
-- a result that this one may not simply replace
local record = redis.call('HMGET', KEYS[1], 'claim', 'state')
if record[1] == ARGV[1] and record[2] == 'done' then return 1 end
if record[1] ~= ARGV[1] or record[2] ~= 'run' then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 200000, '*', 'e', ARGV[6])
  return 0
end
-- As Celery's backends: what has succeeded is not told otherwise. The backend judges what we cannot.
local head = redis.call('GETRANGE', KEYS[5], 0, 31)
if head ~= '' and not string.find(head, '^{"status": "STARTED"') and not string.find(head, '^{"status": "RETRY"') then
  return 2
end
store(KEYS[5], ARGV[3], ARGV[4])
redis.call('HSET', KEYS[1], 'state', 'done')
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[3], KEYS[4])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 200000, '*', 'e', ARGV[5])
return 1
