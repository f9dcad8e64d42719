-- Rows that each update wrote into each table.
WITH events AS (
  --include events
)

SELECT
  CAST(timestamp AS DATE) AS date,
  origin.pipeline_name AS pipeline,
  substring_index(origin.dataset_name, '.', -2) AS `table`,
  sum(CAST(get_json_object(details, '$.flow_progress.metrics.num_output_rows') AS BIGINT)) AS rows_written
FROM events
WHERE event_type = 'flow_progress' AND get_json_object(details, '$.flow_progress.metrics.num_output_rows') IS NOT NULL
GROUP BY ALL
ORDER BY date, `table`
