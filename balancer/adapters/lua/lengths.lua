-- How many messages wait in each list of many queues.
-- KEYS  none: the lists are made here
-- ARGV  1 prefix of all keys  2 separator  3 number of priority steps  4… the steps, then the queues
-- Returns {place of a queue, place of a step, length, …} of the lists that hold something; a length is an
--   error's text where a key is no list
local steps = tonumber(ARGV[3])
local out = {}
for i = 4 + steps, #ARGV do
  for s = 1, steps do
    local step = ARGV[3 + s]
    local list = ARGV[1] .. ARGV[i]
    if step ~= '0' then list = list .. ARGV[2] .. step end
    local length = redis.pcall('LLEN', list)
    if type(length) == 'table' then length = length.err end
    if length ~= 0 then
      out[#out + 1] = i - 4 - steps
      out[#out + 1] = s - 1
      out[#out + 1] = length
    end
  end
end
return out
