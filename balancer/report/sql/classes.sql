-- The hardware classes that reported or ran something, in the order of their colours.
SELECT DISTINCT hardware_class || CASE WHEN emulated THEN ' (emulated)' ELSE '' END AS class
FROM (
    SELECT hardware_class, emulated FROM worker_samples
    WHERE timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
    UNION ALL
    SELECT hardware_class, emulated FROM runs
    WHERE ended_at BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
)
ORDER BY class
