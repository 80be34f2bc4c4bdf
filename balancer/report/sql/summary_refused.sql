-- What was not moved or could not be read, by reason, with one example.
SELECT kind, reason, count(*) AS times, count(DISTINCT task_id) AS tasks, any_value(detail) AS example
FROM decisions
WHERE kind IN ('refused', 'set_aside') AND timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1, 2
ORDER BY kind, times DESC, reason
LIMIT 30
