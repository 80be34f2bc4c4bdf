-- The tracked accuracy from the seed's table, for a ledger without judged forecasts.
SELECT epoch_ms(time_bucket(to_seconds($bucket_s), timestamp)) AS start,
       strftime(time_bucket(to_seconds($bucket_s), timestamp), '%Y-%m-%d %H:%M:%S') AS "when",
       NULL AS value, NULL AS low, NULL AS high, avg(system_load) AS truth,
       avg(prediction_accuracy) AS accuracy, NULL AS confidence, NULL AS inside, count(*) AS forecasts,
       NULL AS method
FROM load_balancer_metrics
WHERE prediction_accuracy IS NOT NULL AND timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1, 2
ORDER BY start
