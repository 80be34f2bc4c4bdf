-- uses: ring
-- Wake one worker that waits for a queue, after a message was pushed into it.
-- KEYS  1 list that was pushed into
-- ARGV  1 first part of our keys  2 separator
-- Returns 1 when somebody was woken, else 0
return ring(ARGV[1], KEYS[1], ARGV[2])
