-- Errors of updates by class. Messages stay in the event log: they may quote a value of a row.
WITH events AS (
  --include events
)

SELECT
  CAST(timestamp AS DATE) AS date,
  origin.pipeline_name AS pipeline,
  substring_index(coalesce(origin.dataset_name, ''), '.', -2) AS `table`,
  coalesce(element_at(error.exceptions, 1).class_name, 'unknown') AS class,
  count(*) AS errors
FROM events
WHERE level = 'ERROR'
GROUP BY ALL
ORDER BY date DESC, errors DESC
