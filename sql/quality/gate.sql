-- What the quality gates last found of each table, by who checked, those checks first that failed.
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
QUALIFY rank() OVER (PARTITION BY layer, table_name, checked_by ORDER BY checked_at DESC) = 1
ORDER BY passed, severity, `table`, rule
