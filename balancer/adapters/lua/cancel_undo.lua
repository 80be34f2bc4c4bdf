-- uses: ring
-- Let a cancelled task run again; its message, where it was taken out, goes to the front of its list.
-- KEYS  1 cancelled  2 revision  3 list
-- ARGV  1 task id  2 its entry as it was read  3 message or ""  4 first part of our keys
--       5 the broker's separator
-- Returns 1 when it was undone, 0 when its entry is gone or another by now
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('INCR', KEYS[2])
if ARGV[3] ~= '' then
  redis.call('RPUSH', KEYS[3], ARGV[3])
  ring(ARGV[4], KEYS[3], ARGV[5])
end
return 1
