-- Finds instances that still hold deliveries and have not reported for `ttl_s`, ten at most.
--   dead(alive, held, ttl_s, now) → list of instances, the one that fell silent first at the front
-- `alive` is the key of the reports' times, `held` the first part of the keys of held sets.
-- What holds nothing and has been silent for long is forgotten: there may be no balancer to do it.
local function dead(alive, held, ttl_s, now)
  local found = {}
  local silent = redis.call('ZRANGEBYSCORE', alive, '-inf', string.format('(%.6f', now - ttl_s))
  for i = 1, #silent do
    if redis.call('EXISTS', held .. silent[i]) == 1 then
      found[#found + 1] = silent[i]
      if #found == 10 then break end
    end
  end
  if #silent > 0 and #found == 0 then
    redis.call('ZREMRANGEBYSCORE', alive, '-inf', string.format('(%.6f', now - 100 * ttl_s))
  end
  return found
end
