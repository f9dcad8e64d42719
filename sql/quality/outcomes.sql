-- What each rule passed and refused, one row for each of the two, so that they stack.
WITH checks AS (
  --include checks
)

SELECT
  CAST(checked_at AS DATE) AS date,
  `table`,
  rule,
  severity,
  outcome,
  CASE outcome WHEN 'passed' THEN passed ELSE failed END AS records
FROM checks CROSS JOIN VALUES ('passed'), ('refused') AS outcomes (outcome)
ORDER BY date, `table`, rule, outcome
