-- What each rule passed and refused in each update.
WITH checks AS (
  --include checks
)

SELECT
  CAST(checked_at AS DATE) AS date,
  pipeline,
  `table`,
  rule,
  severity,
  dimension,
  passed,
  failed,
  passed / evaluated AS pass_rate,
  failed / evaluated AS failed_share
FROM checks
ORDER BY checked_at, `table`, rule
