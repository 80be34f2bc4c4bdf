-- Moves by kind and reason, and how they ended.
SELECT kind, reason, count(*) AS moves, coalesce(sum(greatest(moved, 1)) FILTER (state = 'completed'), 0)::BIGINT AS tasks,
       count(*) FILTER (state = 'completed') AS completed,
       count(*) FILTER (state IN ('refused', 'stale', 'cancelled')) AS failed,
       count(*) FILTER (proactive) AS proactive,
       median(epoch(ended_at) - epoch(decided_at)) FILTER (state = 'completed') AS median_s
FROM moves
WHERE decided_at BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1, 2
ORDER BY moves DESC, kind, reason
LIMIT 20
