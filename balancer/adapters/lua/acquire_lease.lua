-- Take the lease, or renew it for who holds it.
-- KEYS  1 lease  2 counter of its holders  3 memory, whose fence a new holder must pass
-- ARGV  1 holder  2 milliseconds it lasts
-- Returns the fence of this holder, or false while another holds it
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return tonumber(redis.call('GET', KEYS[2]) or '0')
end
if holder then return false end
-- Where the counter was lost and the memory was not, count on from the memory's writer.
local written = 0
if redis.call('TYPE', KEYS[3]).ok == 'hash' then
  written = tonumber(redis.call('HGET', KEYS[3], 'fence') or '0') or 0
end
local fence = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') or 0, written) + 1
redis.call('SET', KEYS[2], string.format('%d', fence))
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return fence
