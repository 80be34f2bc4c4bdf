-- Take back the wish that a task leaves, if it is still the wish of this move.
-- KEYS  1 want of the task
-- ARGV  1 move
-- Returns 1 when it was taken back, else 0
if redis.call('HGET', KEYS[1], 'move') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
