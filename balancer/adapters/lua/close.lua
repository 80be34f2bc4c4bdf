-- End a task from outside its body: it was revoked, it expired, or its time limit is over.
-- KEYS  1 fence  2 state (checkpoint)  3 want
-- ARGV  1 g of the delivery  2 owner (instance)  3 tag  4 TTL (s)
-- Returns "closed", "none" (nobody ever claimed it, so there is nothing to remember), "committed"
-- (our run under this tag had committed: its result stands) or "elsewhere" (another run has it)
local record = redis.call('HMGET', KEYS[1], 'g', 'state', 'owner', 'tag')
local g, state, owner, tag = unpack(record)
if not g then return 'none' end
local ours = owner == ARGV[2] and tag == ARGV[3]
if state == 'done' and g == ARGV[1] then return 'closed' end
if g ~= ARGV[1] or (state ~= 'free' and not ours) then return 'elsewhere' end
if state == 'fin' then return 'committed' end
redis.call('HSET', KEYS[1], 'state', 'done')
-- Without its token the body, if it still runs, cannot commit.
redis.call('HDEL', KEYS[1], 'claim', 'value')
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('DEL', KEYS[2], KEYS[3])
return 'closed'
