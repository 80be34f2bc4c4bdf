-- What was not moved or could not be read, by reason, with one example. Reasons that differ only in
-- their numbers are one, told as it was told most often.
SELECT kind, mode(decisions.reason) AS reason, count(*) AS times, count(DISTINCT task_id) AS tasks,
       coalesce(any_value(detail), any_value(decisions.reason)) AS example
FROM decisions
WHERE kind IN ('refused', 'set_aside') AND timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY kind, regexp_replace(decisions.reason, '(^|[ (])-?[0-9][0-9.]*', '\1…', 'g')
ORDER BY kind, times DESC, reason
