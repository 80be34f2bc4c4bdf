-- Whether a later holder of the lease has taken it, or has written the balancer's memory.
--   superseded(memory, holders, fence) → true or false
-- `memory` is the key of the memory, `holders` that of the counter of the lease's holders; `fence` is the
-- number of the holder that asks.
local function superseded(memory, holders, fence)
  local written = tonumber(redis.call('HGET', memory, 'fence') or '0')
  local taken = tonumber(redis.call('GET', holders) or '0')
  return (written and written > fence) or (taken and taken > fence)
end
