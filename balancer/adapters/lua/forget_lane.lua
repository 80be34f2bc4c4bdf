-- Forget a lane that is empty and was not entered again meanwhile.
-- KEYS  1 lanes  2 revision of the lane table  3… the lists of its queue
-- ARGV  1 queue  2 its entry as it was read
-- Returns 1 when it was forgotten, else 0
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return 0 end
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('INCR', KEYS[2])
return 1
