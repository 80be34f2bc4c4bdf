-- Ends a delivery whose claim was taken with it; where the run had not been committed, this commits it.
--   ack(fence, state, want, events, unacked, unacked_index, held, ask) → answer
-- Names of keys are whole; held is the set of deliveries of the worker that acknowledges.
-- ask  token (of the claim), tag, owner (instance), ttl (s, of a done fence),
--      event (RunFinished document with "outcome":"success" in it, told when this is the commit, or as
--      "stale" when it was to be; "" where the run's end was told already; "stored" where the process
--      that ran it has stored its end, too, so that this never is the commit),
--      refused ("1": the run was refused, so this commits nothing: where there is no fence any more the
--      entry stays, since whoever gets it next shall judge, and where the task is free it waits in a queue)
-- Answers
--   1  the run was ours: it has ended, and its delivery is gone
--   0  another run has the task, or it was ended from outside: only our delivery is gone
--   2  the entry stays: another run has the task under this very tag; or Redis knows nothing of the
--      end that the run had told it of (a failover forgot it), so the next delivery runs it again
-- Sent again because its answer was lost, it changes nothing more and says the same.
local function ack(fence, state, want, events, unacked, unacked_index, held, ask)
  local record = redis.call('HMGET', fence, 'claim', 'state', 'tag', 'owner')
  local claimed, stage, tag, owner = record[1], record[2], record[3], record[4]
  local ours = claimed == ask.token
  local answer = 1
  if ask.refused == '1' and (not stage or (ours and stage ~= 'done')) then
    if stage == 'free' then redis.call('SREM', held, ask.tag) end
    return 2
  end
  if ours and (stage == 'run' or stage == 'free') and ask.event == 'stored' and ask.refused ~= '1' then
    redis.call('HSET', fence, 'state', 'free')
    redis.call('HDEL', fence, 'owner', 'begun')
    -- Long overdue: the next look for lapsed deliveries puts it back.
    redis.call('ZADD', unacked_index, 'XX', 0, ask.tag)
    redis.call('SREM', held, ask.tag)
    return 2
  end
  if not ours and stage then
    answer = 0
    if claimed and tag == ask.tag and (stage == 'run' or stage == 'fin') then answer = 2 end
  end
  if answer == 2 then
    if owner ~= ask.owner then redis.call('SREM', held, ask.tag) end
  else
    redis.call('HDEL', unacked, ask.tag)
    redis.call('ZREM', unacked_index, ask.tag)
    redis.call('SREM', held, ask.tag)
  end
  if stage == 'done' and ours then return 1 end
  if answer == 1 and stage then
    redis.call('HSET', fence, 'state', 'done')
    if stage == 'fin' then redis.call('HDEL', fence, 'value') end
    redis.call('EXPIRE', fence, ask.ttl)
    redis.call('DEL', state, want)
  end
  if ask.event ~= '' and ask.event ~= 'stored' and stage ~= 'fin' then
    local event = ask.event
    if answer ~= 1 then event = string.gsub(event, '"outcome":"success"', '"outcome":"stale"', 1) end
    redis.call('XADD', events, 'MAXLEN', '~', 200000, '*', 'e', event)
  end
  return answer
end
