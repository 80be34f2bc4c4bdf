-- uses: claim ack
-- Take messages off their lists for a consumer: each is entered as delivered, and its task claimed,
-- in the same step, so that a message is never in nobody's hands. First the acks that wait.
-- KEYS  1 unacked  2 unacked_index  3 held (deliveries of this worker)  4 events  5 alive  6 cancelled
-- ARGV  1 first part of our keys  2 messages at most  3 "1" to wait for the bell where there is nothing
--       4 the consumer's clock  5 instance ("" no worker: nothing is claimed or held)  6 worker name
--       7 nonce of this taking  8 age limit of a report (s)  9 TTL (s) of a running task's fence
--       10 TTL (s) of a done fence  11 bell  12 group of who asks for these queues
--       13 group left ("" none)  14 separator  15 steps  16 queues  17 acks
--       18… the steps; then (key of the queue, "1" where nothing is acknowledged) each;
--       then (task id, token ("" not claimed), tag, event, refused) each ack
-- Returns {messages, how many wait in the group (0: this one does not), answers to the acks}; a
-- message is {number of its queue, raw message, verdict, token, kept value, suspect (0/1), tag}
--   none      not claimed: not balanced, or no worker          unread  no message: it was set aside
--   taken, answer, cancelled  as the part `claim` says
--   held      its own worker holds this task already: that worker knows whether it does; in the place
--             of suspect 1 where it holds it under this very tag, so that the entry is its run's
-- Queues are served in the order given, each priority step of all of them before the next step.
-- A copy that has ended or that somebody else runs is dropped here and told as a Duplicate.
local base, most, instance = ARGV[1], tonumber(ARGV[2]), ARGV[5]
local steps, queues, acks = tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[17])
local first_queue = 18 + steps
local first_ack = first_queue + 2 * queues
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000

local answers = {}
for i = first_ack, first_ack + 5 * acks - 1, 5 do
  local id, token, tag, event, refused = unpack(ARGV, i, i + 4)
  if token == '' then
    redis.call('HDEL', KEYS[1], tag)
    redis.call('ZREM', KEYS[2], tag)
    redis.call('SREM', KEYS[3], tag)
    answers[#answers + 1] = 1
  else
    answers[#answers + 1] = ack(
      base .. 'fence:' .. id, base .. 'state:' .. id, base .. 'want:' .. id, KEYS[4], KEYS[1], KEYS[2],
      KEYS[3], {token = token, tag = tag, owner = instance, ttl = ARGV[10], event = event,
                refused = refused})
  end
end

local function field(of, name, kind)
  local value = type(of) == 'table' and of[name]
  return type(value) == kind and value or nil
end

-- A count in a header, 0 for what is none; as `workers.header` reads it.
local function count(value)
  if type(value) ~= 'number' or value ~= value or value < 0 or value >= 1000000 then return 0 end
  return math.floor(value)
end

local function enter(tag, raw, info, held)
  redis.call('HSET', KEYS[1], tag, '[' .. raw .. ', ' .. cjson.encode(info.exchange) .. ', ' ..
             cjson.encode(info.routing_key) .. ']')
  redis.call('ZADD', KEYS[2], ARGV[4], tag)
  if held ~= '' then redis.call('SADD', held, tag) end
end

local function refuse(id, verdict)
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', 200000, '*', 'e', cjson.encode(
    {type = 'Duplicate', task_id = id, worker = ARGV[6], reason = verdict}))
end

local taken = {}

-- One raw message: what the consumer is told of it is put into `taken`, or nothing.
local function take(number, key, raw, acknowledged)
  if not acknowledged then
    taken[#taken + 1] = {number, raw, 'none', '', '', 0, ''}
    return
  end
  local read, message = pcall(cjson.decode, raw)
  local properties = read and field(message, 'properties', 'table')
  local tag, info = field(properties, 'delivery_tag', 'string'), field(properties, 'delivery_info', 'table')
  if not (tag and field(info, 'exchange', 'string') and field(info, 'routing_key', 'string')) then
    redis.call('RPUSH', base .. 'unread:' .. key, raw)
    taken[#taken + 1] = {number, raw, 'unread', '', '', 0, ''}
    return
  end
  local held = instance ~= '' and KEYS[3] or ''
  local headers = field(message, 'headers', 'table')
  local balanced, id = field(headers, 'balancer', 'table'), field(headers, 'id', 'string')
  if held == '' or not balanced or not id then
    enter(tag, raw, info, held)
    taken[#taken + 1] = {number, raw, 'none', '', '', 0, tag}
    return
  end
  local fence = base .. 'fence:' .. id
  local verdict, token, same, kept, suspect = claim(
    fence, KEYS[5], base .. 'state:' .. id, KEYS[4], KEYS[6], now, {
      g = string.format('%06d.%06d.%06d', count(headers.replaced_task_nesting), count(headers.retries),
                        count(balanced.epoch)),
      owner = instance, tag = tag, worker = ARGV[6], nonce = ARGV[7] .. '.' .. (#taken + 1), ttl = ARGV[8],
      keep_s = ARGV[9], event = '', void = '',
    }, id)
  if verdict == 'held' then
    local owner = redis.call('HGET', fence, 'owner')
    if owner ~= instance then
      -- Under the same tag the entry is the only one that the running copy has: it lies with its worker.
      if same == 1 then enter(tag, raw, info, base .. 'held:' .. owner) end
      refuse(id, verdict)
      return
    end
    enter(tag, raw, info, held)
    suspect = same
  elseif verdict == 'stale' or verdict == 'done' then
    refuse(id, verdict)
    return
  else
    enter(tag, raw, info, held)
  end
  taken[#taken + 1] = {number, raw, verdict, token, kept, suspect, tag}
end

for s = 18, 17 + steps do
  for q = 0, queues - 1 do
    local key, no_ack = ARGV[first_queue + 2 * q], ARGV[first_queue + 2 * q + 1]
    local list = (ARGV[s] == '0') and key or (key .. ARGV[14] .. ARGV[s])
    while #taken < most do
      -- What lies under the name of a list and is none must not stop the others.
      local raw = redis.pcall('RPOP', list)
      if type(raw) ~= 'string' then break end
      take(q, key, raw, no_ack ~= '1')
    end
  end
end

local group, left, bell = ARGV[12], ARGV[13], ARGV[11]
local waits = #taken == 0 and ARGV[3] == '1'
if left ~= '' and not (waits and left == group) then redis.call('SREM', base .. 'idle:' .. left, bell) end
if not waits then return {taken, 0, answers} end

-- Nobody rings a bell between this look and the wait unheard: an old ring is taken away here, and
-- one that comes after this step lies in its list.
redis.call('DEL', base .. 'ring:' .. bell)
local idle = base .. 'idle:' .. group
local joined = redis.call('SADD', idle, bell)
local known = queues > 0 and redis.call('ZSCORE', base .. 'askers:' .. ARGV[first_queue], group)
if joined == 1 or not known or now - tonumber(known) > 5 then
  redis.call('EXPIRE', idle, 60)
  for q = 0, queues - 1 do
    local askers = base .. 'askers:' .. ARGV[first_queue + 2 * q]
    redis.call('ZADD', askers, clock[1], group)
    redis.call('EXPIRE', askers, 60)
  end
end
return {taken, redis.call('SCARD', idle), answers}
