-- Rules that refused a row when they were last checked, most rows first: since when without a pass, and who mends it.
WITH checks AS (
  --include checks
),

marked AS (
  SELECT *, max(checked_at) FILTER (WHERE failed = 0) OVER (PARTITION BY `table`, rule) AS passed_at
  FROM checks
)

SELECT
  CAST(max(checked_at) AS DATE) AS date,
  `table`,
  rule,
  severity,
  owner,
  max_by(failed, checked_at) AS failed,
  round(100 * max_by(failed / evaluated, checked_at), 1) AS failed_percent,
  min(checked_at) AS failing_since,
  datediff(current_date(), CAST(min(checked_at) AS DATE)) AS days_failing
FROM marked
WHERE failed > 0 AND (passed_at IS NULL OR checked_at > passed_at)
GROUP BY ALL
ORDER BY failed DESC, `table`, rule
