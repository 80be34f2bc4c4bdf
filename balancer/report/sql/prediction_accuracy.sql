-- Forecasts of the system's load by the time they were due, with what came.
SELECT epoch_ms(time_bucket(to_seconds($bucket_s), due_at)) AS start,
       strftime(time_bucket(to_seconds($bucket_s), due_at), '%Y-%m-%d %H:%M:%S') AS "when",
       avg(value) AS value, avg(low) AS low, avg(high) AS high, avg(truth) AS truth,
       avg(accuracy) AS accuracy, avg(confidence) AS confidence,
       avg(inside::INTEGER) AS inside, count(truth) AS forecasts, mode(method) AS method,
       strftime(min(due_at), '%H:%M:%S') AS due
FROM forecasts
WHERE subject = 'system' AND made_at BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1, 2
ORDER BY start
