-- Claim a task for one run of its body, or say why not.
-- KEYS  1 fence  2 alive  3 state (checkpoint)  4 events
-- ARGV  1 g (generation, sortable)  2 owner (instance)  3 tag  4 age limit of a report (s)
--       5 event document, with the text "resumed":false in it  6 worker name
--       7 nonce of this run ("" none)  8 TTL (s) of a running task's fence
-- Returns {verdict, token, server time, same tag (0/1), kept value or ""}
--   taken   the caller owns the run; token proves it
--   answer  a gone owner had committed: return the kept value, do not run again
--   held    a live owner has this generation      stale   a later generation exists
--   done    this generation has ended
-- A claim that is sent again because its answer was lost (same nonce) gets the same answer.
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local record = redis.call('HMGET', KEYS[1], 'g', 'state', 'owner', 'claim', 'tag', 'value', 'n')
local g, state, owner, claim, tag, value, n = unpack(record)
local same = (tag == ARGV[3]) and 1 or 0
local stamp = string.format('%.6f', now)
if g and ARGV[1] < g then return {'stale', '', stamp, same, ''} end
local kept = ''
if g and ARGV[1] == g then
  if state == 'done' then return {'done', '', stamp, same, ''} end
  if state == 'run' or state == 'fin' then
    if ARGV[7] ~= '' and claim == n .. '.' .. ARGV[7] then
      return {state == 'run' and 'taken' or 'answer', claim, stamp, same, value or ''}
    end
    local seen = owner and redis.call('ZSCORE', KEYS[2], owner)
    if seen and now - tonumber(seen) <= tonumber(ARGV[4]) then
      return {'held', '', stamp, same, ''}
    end
    if state == 'fin' and value then kept = value end
  end
end
-- The count alone would begin again where a fence was lost; with the nonce no two tokens are equal.
local token = redis.call('HINCRBY', KEYS[1], 'n', 1) .. '.' .. ARGV[7]
redis.call('HSET', KEYS[1], 'g', ARGV[1], 'owner', ARGV[2], 'tag', ARGV[3],
           'claim', token, 'started', stamp, 'worker', ARGV[6])
redis.call('EXPIRE', KEYS[1], ARGV[8])
if kept ~= '' then
  redis.call('HSET', KEYS[1], 'state', 'fin')
  return {'answer', token, stamp, same, kept}
end
redis.call('HSET', KEYS[1], 'state', 'run')
redis.call('HDEL', KEYS[1], 'value', 'checkpointed', 'state_bytes')
-- What earlier runs had done: 0 when there is no checkpoint, "" when it does not say.
local before, event = '0', ARGV[5]
if redis.call('EXISTS', KEYS[3]) == 1 then
  before = redis.call('HGET', KEYS[3], 'share') or ''
  event = string.gsub(event, '"resumed":false', '"resumed":true', 1)
end
redis.call('HSET', KEYS[1], 'share_before', before, 'share', before)
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 200000, '*', 'e', event)
return {'taken', token, stamp, same, ''}
