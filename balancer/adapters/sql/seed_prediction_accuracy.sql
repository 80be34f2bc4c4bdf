-- Check prediction accuracy over time
SELECT
    timestamp,
    prediction_accuracy,
    system_load,
    imbalance_score
FROM load_balancer_metrics
WHERE prediction_accuracy IS NOT NULL
ORDER BY timestamp DESC
LIMIT 100;
