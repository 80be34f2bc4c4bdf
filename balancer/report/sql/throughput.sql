-- Runs that ended by time bucket and hardware class, with their slot seconds and joules.
SELECT epoch_ms(time_bucket(to_seconds($bucket_s), ended_at)) AS start,
       epoch_ms(time_bucket(to_seconds($bucket_s), ended_at)) + 1000 * $bucket_s AS stop,
       strftime(time_bucket(to_seconds($bucket_s), ended_at), '%Y-%m-%d %H:%M:%S') AS "when",
       hardware_class || CASE WHEN emulated THEN ' (emulated)' ELSE '' END AS class,
       count(*) AS runs, count(*) FILTER (outcome = 'success') AS succeeded,
       avg(duration_s) AS seconds, sum(joules) AS joules
FROM runs
WHERE ended_at BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1, 2, 3, 4
ORDER BY start, class
