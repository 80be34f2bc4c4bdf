-- Wakes one worker that waits for work, after a push: of those that ask for this queue, one.
--   ring(base, list, sep) → 1 when somebody was woken, else 0
-- base  first part of our keys, `keys.ours("")`, with its colon: "balancer:", "shop:balancer:"
-- list  whole key of the list that was pushed into, of any priority (or of its queue)
-- sep   the broker's separator, `keys.sep`, by which a priority is cut off; false where `list` is a queue's
-- Call it after the push, once for each message; it costs one read where nobody waits. A worker that
-- cannot come (frozen, killed, its order refuses the queue by now) costs no message: all look again by
-- themselves, and a bell rings once, so that the next push wakes another.
-- Waiting workers are kept by groups that ask for the same queues: {base}askers:<queue> is a zset
-- group → time, {base}idle:<group> a set of bells, {base}ring:<bell> the list a worker blocks on.
-- A bell is "<instance>/<number>" of a worker and "-/<name>" of another consumer.
local function ring(base, list, sep)
  local queue = list
  if sep and sep ~= '' then
    local at, from = nil, 1
    while true do
      local found, last = string.find(list, sep, from, true)
      if not found then break end
      at, from = found, last + 1
    end
    if at and string.match(list, '^%d+$', from) then queue = string.sub(list, 1, at - 1) end
  end
  local askers = base .. 'askers:' .. queue
  for _, group in ipairs(redis.call('ZRANGE', askers, 0, -1)) do
    -- At most a few that were killed while they waited: those left over are found by the next push.
    for _ = 1, 4 do
      local bell = redis.call('SPOP', base .. 'idle:' .. group)
      if not bell then
        redis.call('ZREM', askers, group)
        break
      end
      local seen = redis.call('ZSCORE', base .. 'alive', string.match(bell, '^(.*)/[^/]*$') or bell)
      if not seen or redis.call('TIME')[1] - tonumber(seen) < 15 then
        local place = base .. 'ring:' .. bell
        redis.call('LPUSH', place, '1')
        redis.call('LTRIM', place, 0, 0)
        redis.call('PEXPIRE', place, 5000)
        return 1
      end
    end
  end
  return 0
end
