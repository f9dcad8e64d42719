-- What each stream had left to read when it last said so; a triggered update reads all there is, so that it stays 0. Kinds
-- of sources that count neither files nor bytes have no row.
WITH events AS (
  --include events
),

told AS (
  SELECT
    timestamp,
    origin.pipeline_name AS pipeline,
    substring_index(origin.dataset_name, '.', -2) AS `table`,
    CAST(get_json_object(details, '$.flow_progress.metrics.backlog_files') AS BIGINT) AS files,
    CAST(get_json_object(details, '$.flow_progress.metrics.backlog_bytes') AS BIGINT) AS bytes
  FROM events
  WHERE event_type = 'flow_progress'
)

SELECT CAST(timestamp AS DATE) AS date, pipeline, `table`, files AS backlog_files, bytes AS backlog_bytes
FROM told
WHERE files IS NOT NULL OR bytes IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY pipeline, `table` ORDER BY timestamp DESC) = 1
ORDER BY backlog_bytes DESC, `table`
