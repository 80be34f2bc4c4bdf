-- Save the state of a run and learn whether the task is wanted elsewhere.
-- KEYS  1 fence  2 state (checkpoint)  3 want
-- ARGV  1 token  2 data ("" saves nothing)  3 share of the work done ("" unknown)  4 TTL of the state (s)
--       5 TTL of the fence (s)
-- Returns {1 still ours / 0 not, move id or "", target queue or ""}
local record = redis.call('HMGET', KEYS[1], 'claim', 'state')
if record[1] ~= ARGV[1] or record[2] ~= 'run' then return {0, '', ''} end
if ARGV[2] ~= '' then
  local clock = redis.call('TIME')
  local stamp = string.format('%d.%06d', clock[1], clock[2])
  redis.call('HSET', KEYS[2], 'data', ARGV[2], 'at', stamp, 'size', #ARGV[2], 'share', ARGV[3])
  redis.call('EXPIRE', KEYS[2], ARGV[4])
  redis.call('HSET', KEYS[1], 'checkpointed', stamp, 'state_bytes', #ARGV[2], 'share', ARGV[3])
  redis.call('HDEL', KEYS[1], 'lost', 'deaths', 'died')
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
local want = redis.call('HMGET', KEYS[3], 'move', 'queue')
return {1, want[1] or '', want[2] or ''}
