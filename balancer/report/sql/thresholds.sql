-- System load (mean, least and greatest) and the thresholds at the end of each time bucket.
SELECT epoch_ms(time_bucket(to_seconds($bucket_s), timestamp)) AS start,
       strftime(time_bucket(to_seconds($bucket_s), timestamp), '%Y-%m-%d %H:%M:%S') AS "when",
       avg(system_load) AS load, min(system_load) AS least, max(system_load) AS greatest,
       arg_max(threshold_high, timestamp) AS high, arg_max(threshold_low, timestamp) AS low,
       avg(imbalance_score) AS imbalance, count(*) AS ticks
FROM load_balancer_metrics
WHERE timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1, 2
ORDER BY start
