-- What some workers hold, as one text: a client reads that faster than thousands of replies.
-- KEYS  1 hash of the holds
-- ARGV  the workers' names
-- Returns {lengths, documents}: the documents in the order of the names as one text, and their lengths in
--   bytes, "120,-1,90"; -1 where there is none
local STEP = 1000
local sizes, found = {}, {}
for first = 1, #ARGV, STEP do
  local last = math.min(first + STEP - 1, #ARGV)
  for _, document in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, first, last))) do
    sizes[#sizes + 1] = document and #document or -1
    if document then found[#found + 1] = document end
  end
end
return {table.concat(sizes, ','), table.concat(found)}
