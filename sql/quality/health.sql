-- The state of now in one row. A failure is open if the last update that checked its rule refused a row. The score is
-- the share of checks that passed in those updates, a critical one weighted as nine others.
WITH checks AS (
  --include checks
),

last_checks AS (
  SELECT *, CASE severity WHEN 'critical' THEN 9 ELSE 1 END AS weight
  FROM checks
  QUALIFY row_number() OVER (PARTITION BY `table`, rule ORDER BY checked_at DESC) = 1
),

rules AS (
  SELECT
    sum(weight * passed) / sum(weight * evaluated) AS score,
    count_if(failed > 0 AND severity = 'critical') AS open_critical_failures,
    count_if(failed > 0) AS open_failures,
    count(*) AS rules_checked
  FROM last_checks
),

events AS (
  --include events
),

updates AS (
  SELECT
    max_by(get_json_object(details, '$.update_progress.state'), timestamp) AS last_state,
    max(timestamp) AS last_update_at
  FROM events
  WHERE event_type = 'update_progress'
)

SELECT
  rules.score,
  rules.open_critical_failures,
  rules.open_failures,
  rules.rules_checked,
  updates.last_state,
  updates.last_update_at,
  CAST(timestampdiff(MINUTE, updates.last_update_at, current_timestamp()) AS INT) AS minutes_since_update
FROM rules CROSS JOIN updates
