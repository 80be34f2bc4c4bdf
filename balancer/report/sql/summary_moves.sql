-- Moves by kind and reason, and how they ended. Reasons that differ only in their numbers and in the names
-- of workers are one, told with the median of each of its first numbers.
WITH told AS (
    SELECT *, regexp_replace(regexp_replace(coalesce(reason, ''), '[^\s,;:()]+@[^\s,;:()]+', 'a worker'),
                             '[^\s,;:()]+@[^\s,;:()]+', 'another', 'g') AS named
    FROM moves
    WHERE decided_at BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
), move AS (
    SELECT *, regexp_replace(named, '(^|[ (])-?[0-9]+(\.[0-9]+)?', '\1…', 'g') AS pattern,
           [TRY_CAST(trim(number, ' (') AS DOUBLE)
            FOR number IN regexp_extract_all(named, '(^|[ (])-?[0-9]+(\.[0-9]+)?')] AS numbers
    FROM told
)
SELECT kind, pattern, mode(reason) AS example, count(DISTINCT numbers) > 1 AS differ,
       [median(numbers[1]), median(numbers[2]), median(numbers[3]), median(numbers[4])] AS medians,
       count(*) AS moves, coalesce(sum(greatest(moved, 1)) FILTER (state = 'completed'), 0)::BIGINT AS tasks,
       count(*) FILTER (state = 'completed') AS completed,
       count(*) FILTER (state IN ('refused', 'stale', 'cancelled')) AS failed,
       count(*) FILTER (proactive) AS proactive,
       median(epoch(ended_at) - epoch(decided_at)) FILTER (state = 'completed') AS median_s
FROM move
GROUP BY kind, pattern
ORDER BY moves DESC, kind, pattern
