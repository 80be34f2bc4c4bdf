-- uses: store
-- Store what a task says of itself while it goes on (STARTED, RETRY), unless its end is told already.
-- KEYS  1 result
-- ARGV  1 result document  2 its TTL (s), "0" none
-- Returns 1 stored, 0 there is an end
-- However a document is encoded, its state comes first.
local head = redis.call('GETRANGE', KEYS[1], 0, 31)
for _, state in ipairs({'SUCCESS', 'FAILURE', 'REVOKED'}) do
  if string.find(head, state, 1, true) then return 0 end
end
store(KEYS[1], ARGV[1], ARGV[2])
return 1
