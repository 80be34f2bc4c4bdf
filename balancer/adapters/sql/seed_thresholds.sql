-- Get recent threshold adjustments
SELECT timestamp, threshold_high, threshold_low, system_load
FROM load_balancer_metrics
ORDER BY timestamp DESC
LIMIT 50;
