-- Analyze migration success rates
SELECT
    DATE(timestamp) as date,
    SUM(migrations_initiated) as total_migrations,
    SUM(migrations_successful) as successful_migrations,
    ROUND(SUM(migrations_successful) * 100.0 / SUM(migrations_initiated), 1) as success_rate
FROM load_balancer_metrics
GROUP BY DATE(timestamp)
ORDER BY date DESC;
