-- Finds instances that still hold deliveries and have not reported for `ttl_s`, ten at most.
--   dead(alive, held, silence, ttl_s, now, newest) → instances, the one that fell silent first in front
-- `alive` is the key of the reports' times, `held` the first part of the keys of held sets, `newest` the
-- time of the latest report before this one (false: none).
-- Where nobody at all has reported for so long it was Redis that could not be reached, or the whole
-- fleet that stood still: then all have half the limit to report again (`silence`, a hash), before the
-- first is taken for dead and what it runs is run a second time.
local function dead(alive, held, silence, ttl_s, now, newest)
  local found = {}
  if newest and now - tonumber(newest) > ttl_s and redis.call('HGET', silence, 'after') ~= newest then
    redis.call('HSET', silence, 'after', newest, 'since', string.format('%.6f', now))
    redis.call('EXPIRE', silence, math.ceil(100 * ttl_s))
  end
  local since = redis.call('HGET', silence, 'since')
  if since and now - tonumber(since) < ttl_s / 2 then return found end
  local silent = redis.call('ZRANGEBYSCORE', alive, '-inf', string.format('(%.6f', now - ttl_s))
  for i = 1, #silent do
    if redis.call('EXISTS', held .. silent[i]) == 1 then
      found[#found + 1] = silent[i]
      if #found == 10 then break end
    end
  end
  -- What holds nothing is forgotten in the end: there may be no balancer to do it.
  if #silent > 0 and #found == 0 then
    redis.call('ZREMRANGEBYSCORE', alive, '-inf', string.format('(%.6f', now - 100 * ttl_s))
  end
  return found
end
