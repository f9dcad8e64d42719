-- The last quality gate: every check that it made, those that failed first. Empty where the gate is switched off.
SELECT
  CAST(checked_at AS DATE) AS date,
  checked_at,
  checked_by,
  concat(layer, '.', table_name) AS `table`,
  rule,
  severity,
  owner,
  CASE WHEN passed THEN 'passed' ELSE 'FAILED' END AS result,
  failed_records
FROM IDENTIFIER(:catalog || '.' || :ops_schema || '.dq_results')
QUALIFY rank() OVER (ORDER BY checked_at DESC) = 1
ORDER BY passed, severity, `table`, rule
