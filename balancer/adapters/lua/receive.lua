-- uses: claim
-- Enter a delivery that was taken off its list and claim its task in the same step.
-- KEYS  1 fence  2 alive  3 state (checkpoint)  4 events  5 cancelled  6 unacked  7 unacked_index
--       8 held (deliveries of this worker)
-- ARGV  1 g (generation, sortable)  2 owner (instance)  3 tag  4 age limit of a report (s)
--       5 worker name  6 nonce of this taking  7 TTL (s) of a running task's fence  8 task id
--       9 entry of `unacked`  10 the worker's clock  11 "1" where this worker runs nothing of this task
-- Returns {verdict, token, same tag (0/1), kept value or "", suspect (0/1)}; see the part
-- Nothing is entered for what has ended or is held under another tag: the copy is dropped here. One
-- that is held under the same tag is entered, since that entry is the only one the running copy has.
local clock = redis.call('TIME')
local verdict, token, same, kept, suspect = claim(
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], clock[1] + clock[2] / 1000000, {
    g = ARGV[1], owner = ARGV[2], tag = ARGV[3], ttl = ARGV[4], worker = ARGV[5], nonce = ARGV[6],
    keep_s = ARGV[7], event = '', void = ARGV[11],
  }, ARGV[8])
local ours = verdict == 'taken' or verdict == 'answer' or verdict == 'cancelled'
if ours or (verdict == 'held' and same == 1) then
  redis.call('HSET', KEYS[6], ARGV[3], ARGV[9])
  redis.call('ZADD', KEYS[7], ARGV[10], ARGV[3])
end
if ours then redis.call('SADD', KEYS[8], ARGV[3]) end
return {verdict, token, same, kept, suspect}
