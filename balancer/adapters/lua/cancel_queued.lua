-- Take the message of a cancelled task out of its list, into the task's entry.
-- KEYS  1 list  2 cancelled
-- ARGV  1 message as it was read  2 task id  3 its entry as it was read  4 its entry with the message
-- Returns 1 when it was taken out, 0 when it is gone, or its cancelling was undone
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then return 0 end
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
return 1
