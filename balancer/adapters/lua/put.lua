-- uses: ring
-- Publish a message and wake one worker that waits for its queue.
-- KEYS  1 list
-- ARGV  1 first part of our keys  2 separator  3 message  4 life of the queue (ms, "" for ever)
--       5… all lists of the queue, which live as long
-- Returns the length of the list
local length = redis.call('LPUSH', KEYS[1], ARGV[3])
for i = 5, #ARGV do redis.call('PEXPIRE', ARGV[i], ARGV[4]) end
ring(ARGV[1], KEYS[1], ARGV[2])
return length
