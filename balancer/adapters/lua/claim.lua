-- uses: claim
-- Claim a task for one run of its body, or say why not (a process that got its task without a claim).
-- KEYS  1 fence  2 alive  3 state (checkpoint)  4 events  5 cancelled
-- ARGV  1 g (generation, sortable)  2 owner (instance)  3 tag  4 age limit of a report (s)
--       5 event document, with the text "resumed":false in it  6 worker name
--       7 nonce of this run ("" none)  8 TTL (s) of a running task's fence  9 task id
-- Returns {verdict, token, server time, same tag (0/1), kept value or "", suspect (0/1)}; see the part
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local verdict, token, same, kept, suspect = claim(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], now, {
  g = ARGV[1], owner = ARGV[2], tag = ARGV[3], ttl = ARGV[4], event = ARGV[5], worker = ARGV[6],
  nonce = ARGV[7], keep_s = ARGV[8],
}, ARGV[9])
return {verdict, token, string.format('%.6f', now), same, kept, suspect}
