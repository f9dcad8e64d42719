-- What should be fresh, when it last was, how old that is, and how old it may be.
WITH ingest AS (
  SELECT
    max(ended_at) AS ended_at,
    max(ended_at) FILTER (WHERE rows_landed > 0) AS landed_at,
    max(ended_at) FILTER (WHERE mode = 'reconcile') AS compared_at
  FROM IDENTIFIER(:catalog || '.' || :ops_schema || '.ingest_runs')
  WHERE status = 'succeeded'
),
updates AS (
  SELECT max(timestamp) AS completed_at
  FROM IDENTIFIER(:catalog || '.' || :ops_schema || '.members_event_log')
  WHERE event_type = 'update_progress' AND get_json_object(details, '$.update_progress.state') = 'COMPLETED'
),
ages AS (
  SELECT 'members ingested from MySQL' AS what, ended_at AS last, ended_at AS waiting_since, 26 AS limit_hours FROM ingest
  UNION ALL
  SELECT 'members compared with MySQL', compared_at, compared_at, 8 * 24 FROM ingest
  UNION ALL
  -- Nothing waits where an update has completed since the last files landed.
  SELECT
    'landed members read by the pipeline',
    completed_at,
    CASE WHEN landed_at IS NULL OR completed_at >= landed_at THEN current_timestamp() ELSE landed_at END,
    2
  FROM ingest CROSS JOIN updates
)
SELECT
  what,
  last,
  CAST(timestampdiff(MINUTE, waiting_since, current_timestamp()) / 60 AS DECIMAL(9, 1)) AS hours_waiting,
  limit_hours,
  CASE WHEN timestampdiff(MINUTE, waiting_since, current_timestamp()) <= limit_hours * 60 THEN 'fresh' ELSE 'STALE' END AS state
FROM ages
ORDER BY what
