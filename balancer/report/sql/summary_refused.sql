-- What was not moved or could not be read, by reason, with one example. Reasons that differ only in
-- their numbers are one.
SELECT kind, regexp_replace(reason, '(^|[ (])-?[0-9][0-9.]*', '\1…', 'g') AS reason, count(*) AS times, count(DISTINCT task_id) AS tasks, coalesce(any_value(detail), any_value(reason)) AS example
FROM decisions
WHERE kind IN ('refused', 'set_aside') AND timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1, 2
ORDER BY kind, times DESC, 2
