-- The ends of the messages that are served next, enough of each to read its headers.
-- KEYS  lists of queues
-- ARGV  1 messages a list  2 bytes a message, from its end (kombu writes the body first)
-- Returns for each list {end of the first message to be served, of the second, …}
local out = {}
for i = 1, #KEYS do
  local messages = redis.call('LRANGE', KEYS[i], -ARGV[1], -1)
  local ends = {}
  for j = #messages, 1, -1 do
    ends[#ends + 1] = string.sub(messages[j], -ARGV[2])
  end
  out[i] = ends
end
return out
