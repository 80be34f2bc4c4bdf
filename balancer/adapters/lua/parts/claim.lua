-- Takes a task for one run, or says why not. It writes the fence only; the delivery is the caller's.
--   claim(fence, alive, state, events, cancelled, now, ask, task_id)
--     → verdict, token, same tag (0/1), kept value or "", suspect (0/1)
-- fence, alive, state (checkpoint), events, cancelled: whole names of keys.  now: the server's clock (s)
-- ask  g (generation, sortable), owner (instance), tag, worker (name), nonce (of this taking, "" none),
--      ttl (age limit of a report, s), keep_s (TTL of a taken fence, s),
--      event (document with "resumed":false in it: told, and `started` written; "" tells nothing),
--      void ("1": the owner knows that it runs nothing of this task, so its own claim is no hindrance)
-- Verdicts
--   taken      the caller owns the run; token proves it. suspect 1: a process or a worker was lost with
--              this task before, so the run notes `begun` (begin.lua) before its body
--   answer     a gone owner had committed: return the kept value, do not run again
--   held       a live owner has this generation      stale   a later generation exists
--   done       this generation has ended             cancelled  it was cancelled: the caller owns it, too,
--              and ends it without a run, so that a delivery of a run that is gone ends with it
-- A claim that is sent again because its answer was lost (same nonce) gets the same answer.
local function claim(fence, alive, state, events, cancelled, now, ask, task_id)
  local record = redis.call('HMGET', fence, 'g', 'state', 'owner', 'claim', 'tag', 'value', 'n',
                            'deaths', 'lost', 'again')
  local g, stage, owner, claimed, tag, value, n, deaths, lost, again = unpack(record)
  local same = (tag == ask.tag) and 1 or 0
  local suspect = ((tonumber(deaths or '0') or 0) + (tonumber(lost or '0') or 0) > 0) and 1 or 0
  if g and ask.g < g then return 'stale', '', same, '', 0 end
  -- A run that was repeated may have ended what an earlier one had sent back as a retry.
  if g and ask.g > g and (stage == 'done' or stage == 'fin') and not again then
    return 'done', '', same, '', 0
  end
  local kept = ''
  if g and ask.g == g then
    if stage == 'done' then return 'done', '', same, '', 0 end
    if stage == 'run' or stage == 'fin' then
      if ask.nonce ~= '' and claimed and claimed == (n or '') .. '.' .. ask.nonce then
        local verdict = stage == 'fin' and 'answer' or 'taken'
        if stage == 'run' and redis.call('HEXISTS', cancelled, task_id) == 1 then verdict = 'cancelled' end
        return verdict, claimed, same, value or '', suspect
      end
      if not (ask.void == '1' and owner == ask.owner) then
        local seen = owner and redis.call('ZSCORE', alive, owner)
        if seen and now - tonumber(seen) <= tonumber(ask.ttl) then return 'held', '', same, '', 0 end
      end
      if stage == 'fin' and value then kept = value end
    end
  end
  local ends = kept == '' and redis.call('HEXISTS', cancelled, task_id) == 1
  -- The count alone would begin again where a fence was lost; with the nonce no two tokens are equal.
  local token = string.format('%d', (tonumber(n or '0') or 0) + 1)
  local fields = {'g', ask.g, 'owner', ask.owner, 'tag', ask.tag, 'worker', ask.worker,
                  'n', token, 'claim', token .. '.' .. ask.nonce,
                  'state', kept ~= '' and 'fin' or 'run'}
  token = token .. '.' .. ask.nonce
  local event = ends and '' or ask.event
  if kept == '' then
    if g then
      redis.call('HDEL', fence, 'value', 'checkpointed', 'state_bytes', 'started', 'begun', 'again',
                 'share', 'share_before')
    end
    -- What earlier runs had done: nothing is written when there is no checkpoint, "" when it does not say.
    local saved = redis.call('HMGET', state, 'at', 'share')
    if saved[1] then
      fields[#fields + 1], fields[#fields + 2] = 'share', saved[2] or ''
      fields[#fields + 1], fields[#fields + 2] = 'share_before', saved[2] or ''
      event = string.gsub(event, '"resumed":false', '"resumed":true', 1)
    end
    if event ~= '' then
      fields[#fields + 1], fields[#fields + 2] = 'started', string.format('%.6f', now)
      redis.call('XADD', events, 'MAXLEN', '~', 200000, '*', 'e', event)
    end
  end
  redis.call('HSET', fence, unpack(fields))
  redis.call('EXPIRE', fence, ask.keep_s)
  return ends and 'cancelled' or kept ~= '' and 'answer' or 'taken', token, same, kept, suspect
end
