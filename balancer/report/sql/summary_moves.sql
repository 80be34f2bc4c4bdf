-- Moves by kind and reason, and how they ended. Reasons that differ only in their numbers are one.
SELECT kind, regexp_replace(reason, '(^|[ (])-?[0-9][0-9.]*', '\1…', 'g') AS reason, any_value(reason) AS example,
       count(*) AS moves, coalesce(sum(greatest(moved, 1)) FILTER (state = 'completed'), 0)::BIGINT AS tasks,
       count(*) FILTER (state = 'completed') AS completed,
       count(*) FILTER (state IN ('refused', 'stale', 'cancelled')) AS failed,
       count(*) FILTER (proactive) AS proactive,
       median(epoch(ended_at) - epoch(decided_at)) FILTER (state = 'completed') AS median_s
FROM moves
WHERE decided_at BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1, 2
ORDER BY moves DESC, kind, 2
