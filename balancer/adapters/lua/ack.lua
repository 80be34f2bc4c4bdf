-- uses: ack
-- Acknowledge a delivery whose claim was taken with it.
-- KEYS  1 fence  2 state (checkpoint)  3 want  4 events  5 unacked  6 unacked_index  7 held
-- ARGV  1 token  2 tag  3 owner (instance)  4 TTL (s) of a done fence  5 event document or ""
--       6 "1" for a run that was refused, else ""
-- Returns 1 ended, 0 another's: only our delivery is gone, 2 the entry backs another run; see the part
return ack(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], {
  token = ARGV[1], tag = ARGV[2], owner = ARGV[3], ttl = ARGV[4], event = ARGV[5], refused = ARGV[6],
})
