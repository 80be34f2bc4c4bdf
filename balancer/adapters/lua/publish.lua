-- uses: dead
-- Publish a worker's heartbeat: it is alive, its numbers, and what of it changed; learn who is gone.
-- KEYS  1 alive  2 beats  3 workers  4 holds  5 unacked_index  6 revision of the cancelled tasks
--       7 failed tasks whose client was not told yet  8 silence  9 board  10 places  11 free places
-- ARGV  1 worker name  2 instance  3 packed beat  4 description or ""  5 holds or ""
--       6 the worker's clock  7 first part of the keys of held sets  8 age limit of a report (s)
--       9… delivery tags it still holds
-- Returns {seconds and microseconds of the server's clock, revision or "", how many clients are to be
--   told, instance that is gone and holds deliveries, …}
-- Tags are renewed with XX, so that one that was acked meanwhile does not come back to life.
local clock = redis.call('TIME')
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
redis.call('ZADD', KEYS[1], string.format('%d.%06d', clock[1], clock[2]), ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[3], ARGV[1], ARGV[4]) end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[4], ARGV[1], ARGV[5]) end
-- Its row of the board: the beat, the time, and digests that tell whether the documents have changed.
-- What lies under the board's names and is something else costs the board, not the report.
local now = tonumber(string.format('%d.%06d', clock[1], clock[2]))
local place = redis.pcall('HGET', KEYS[10], ARGV[1])
if not place then
  place = redis.call('LPOP', KEYS[11]) or (redis.call('HINCRBY', KEYS[10], '', 1) - 1)
  redis.call('HSET', KEYS[10], ARGV[1], place)
end
if type(place) ~= 'table' then
  local row = tonumber(place) * 159
  local told = (#ARGV[3] == 119 and ARGV[3] or string.rep('\0', 119)) .. struct.pack('<d', now)
  local holds = ARGV[5] ~= '' and string.sub(redis.sha1hex(ARGV[5]), 1, 16) or ''
  local described = ARGV[4] ~= '' and string.sub(redis.sha1hex(ARGV[4]), 1, 16) or ''
  if holds ~= '' then
    redis.pcall('SETRANGE', KEYS[9], row, told .. holds .. described)
  else
    redis.pcall('SETRANGE', KEYS[9], row, told)
    if described ~= '' then redis.pcall('SETRANGE', KEYS[9], row + 143, described) end
  end
end
for i = 9, #ARGV do
  redis.call('ZADD', KEYS[5], 'XX', ARGV[6], ARGV[i])
end
local gone = dead(KEYS[1], ARGV[7], KEYS[8], tonumber(ARGV[8]), now, newest)
return {clock[1], clock[2], redis.call('GET', KEYS[6]) or '', redis.call('SCARD', KEYS[7]), unpack(gone)}
