-- Moves by the time they were decided and how they ended.
SELECT epoch_ms(time_bucket(to_seconds($bucket_s), decided_at)) AS start,
       strftime(time_bucket(to_seconds($bucket_s), decided_at), '%Y-%m-%d %H:%M:%S') AS "when",
       CASE WHEN state IN ('requested', 'handed_over') THEN 'under way' ELSE state END AS outcome,
       count(*) AS moves, coalesce(sum(greatest(moved, 1)), 0)::BIGINT AS tasks,
       count(*) FILTER (proactive) AS proactive,
       avg(epoch(ended_at) - epoch(decided_at)) AS seconds
FROM moves
WHERE decided_at BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1, 2, 3
ORDER BY start, outcome
