-- How forecasts did, for the system and for all workers together.
SELECT CASE subject WHEN 'system' THEN 'system' ELSE 'workers' END AS subject,
       count(*) AS made, count(truth) AS judged, avg(accuracy) AS accuracy, avg(inside::INTEGER) AS inside,
       avg(confidence) AS confidence, avg(abs(truth - value)) AS error
FROM forecasts
WHERE made_at BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1
ORDER BY 1
