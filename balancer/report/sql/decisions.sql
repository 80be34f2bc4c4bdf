-- The latest decisions.
SELECT strftime(timestamp, '%Y-%m-%d %H:%M:%S') AS "when", kind, reason, detail, task_id, profile, move_kind,
       source, target, cost, benefit, proactive
FROM decisions
WHERE timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
ORDER BY timestamp DESC, rowid DESC
LIMIT $limit
