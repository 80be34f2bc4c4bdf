-- Tell of a body that has been running for a while under a claim that was taken with its delivery.
-- KEYS  1 fence  2 events
-- ARGV  1 token  2 when it began (s)  3 event document, with the text "resumed":false in it
-- Returns 1 told, else 0: told before, the run is not ours any more, or it waits for its trial: a suspect's
-- body begins with its `begun`, and until then the death of its worker is not put down to it
local record = redis.call('HMGET', KEYS[1], 'claim', 'state', 'started', 'share_before', 'begun', 'deaths', 'lost')
if record[1] ~= ARGV[1] or record[2] ~= 'run' or record[3] then return 0 end
local lost = (tonumber(record[6] or '0') or 0) + (tonumber(record[7] or '0') or 0)
if lost > 0 and not record[5] then return 0 end
local event = ARGV[3]
if record[4] then event = string.gsub(event, '"resumed":false', '"resumed":true', 1) end
redis.call('HSET', KEYS[1], 'started', ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 200000, '*', 'e', event)
return 1
