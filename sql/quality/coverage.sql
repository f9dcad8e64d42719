-- The columns of each table, and those that a rule looks at.
WITH checks AS (
  --include checks
),

events AS (
  --include events
),

covered AS (
  --include covered
),

described AS (
  --include described
),

looked_at AS (
  SELECT DISTINCT checks.`table`, covered.column
  FROM checks
  INNER JOIN covered ON covered.rule = checks.rule
),

counted AS (
  SELECT
    CAST(described.described_at AS DATE) AS date,
    described.`table`,
    size(described.names) AS columns,
    count(looked_at.column) AS columns_with_rule
  FROM described
  LEFT JOIN looked_at ON looked_at.`table` = described.`table` AND array_contains(described.names, looked_at.column)
  WHERE described.`table` LIKE '%.%' AND described.`table` NOT LIKE '%checks'
  GROUP BY ALL
)

SELECT
  *,
  round(100 * columns_with_rule / columns, 1) AS percent,
  sum(columns_with_rule) OVER () / sum(columns) OVER () AS share_of_all
FROM counted
ORDER BY percent DESC, `table`
