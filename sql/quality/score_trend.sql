-- The quality score of each of the last 30 days: the share of that day's checks that passed, a critical one weighted as
-- nine others.
WITH checks AS (
  --include checks
),

weighted AS (
  SELECT *, CASE severity WHEN 'critical' THEN 9 ELSE 1 END AS weight FROM checks
)

SELECT CAST(checked_at AS DATE) AS date, sum(weight * passed) / sum(weight * evaluated) AS score
FROM weighted
WHERE checked_at >= current_date() - INTERVAL 30 DAYS
GROUP BY ALL
ORDER BY date
