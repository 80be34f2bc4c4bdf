-- Enter a lane in the lane table, unless the fleet has its fill of them.
-- KEYS  1 lanes  2 revision of the lane table
-- ARGV  1 queue  2 document  3 digest inside the document  4 limit  5 queue to share  6 its document
--       7 its digest
-- Returns the queue to publish to
local function enter(queue, document, digest)
  local known = redis.call('HGET', KEYS[1], queue)
  if not known or not string.find(known, digest, 1, true) then redis.call('INCR', KEYS[2]) end
  redis.call('HSET', KEYS[1], queue, document)
  return queue
end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0
   and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
  return enter(ARGV[5], ARGV[6], ARGV[7])
end
return enter(ARGV[1], ARGV[2], ARGV[3])
