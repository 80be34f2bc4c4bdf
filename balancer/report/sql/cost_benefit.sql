-- Candidates by cost and benefit (steps of a quarter of a point), made and refused.
SELECT round(cost * 4) / 4 AS cost, round(benefit * 4) / 4 AS benefit,
       CASE kind WHEN 'move' THEN 'made' ELSE 'refused' END AS outcome,
       count(*) AS candidates, mode(reason) AS reason, mode(profile) AS profile,
       avg(cost_s) AS cost_s, avg(benefit_s) AS benefit_s
FROM decisions
WHERE kind IN ('move', 'refused') AND cost IS NOT NULL AND benefit IS NOT NULL
      AND timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
GROUP BY 1, 2, 3
ORDER BY candidates DESC
LIMIT 2000
