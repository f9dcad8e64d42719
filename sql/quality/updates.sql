-- Updates of all pipelines: one row for each, the newest first.
WITH events AS (
  --include events
)

SELECT
  CAST(min(timestamp) AS DATE) AS date,
  origin.pipeline_name AS pipeline,
  origin.update_id AS update_id,
  min(timestamp) AS started_at,
  max_by(get_json_object(details, '$.update_progress.state'), timestamp)
    FILTER (WHERE event_type = 'update_progress') AS state,
  CAST(timestampdiff(SECOND, min(timestamp), max(timestamp)) AS INT) AS seconds,
  coalesce(sum(CAST(get_json_object(details, '$.flow_progress.metrics.num_output_rows') AS BIGINT)), 0) AS rows_written,
  count_if(level = 'ERROR') AS errors
FROM events
GROUP BY origin.pipeline_name, origin.update_id
ORDER BY started_at DESC
