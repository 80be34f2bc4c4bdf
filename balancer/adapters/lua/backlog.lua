-- What waits in the lanes now, and how old their heads are: all a worker needs to judge at a pop.
-- KEYS  1 order of the worker's class  2 revision of the lane table
-- ARGV  1 separator  2 number of priority steps  3… the steps, then the lanes' keys without a step
-- Returns {order document or "", lengths, times of the heads ("" unknown), revision or ""}
local steps = tonumber(ARGV[2])
local lengths, heads = {}, {}
for i = 3 + steps, #ARGV do
  local waiting, head = 0, ''
  for s = 1, steps do
    local step = ARGV[2 + s]
    local list = (step == '0') and ARGV[i] or (ARGV[i] .. ARGV[1] .. step)
    local length = redis.call('LLEN', list)
    if length > 0 and head == '' then
      local raw = redis.call('LINDEX', list, -1)
      head = string.match(raw, '"balancer": {"at": ([%d%.]+)') or ''
    end
    waiting = waiting + length
  end
  lengths[#lengths + 1] = waiting
  heads[#heads + 1] = head
end
return {redis.call('GET', KEYS[1]) or '', lengths, heads, redis.call('GET', KEYS[2]) or ''}
