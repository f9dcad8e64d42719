-- The columns of each table that name or reach a person, and what keeps them from analysts: a mask, or that nobody has
-- granted them the table. By what the sources declare, so that a laptop, which enforces neither, tells the same.
WITH events AS (
  --include events
),

described AS (
  --include described
),

personal AS (
  --include personal
),

counted AS (
  SELECT
    described.`table`,
    count(*) AS personal_columns,
    count_if(personal.kept_by = 'mask') AS masked,
    count_if(personal.kept_by = 'no grant') AS not_granted,
    count_if(personal.kept_by = 'nothing') AS readable
  FROM described
  INNER JOIN personal
    ON endswith(described.`table`, personal.`table`) AND array_contains(described.names, personal.column)
  GROUP BY ALL
)

SELECT
  *,
  sum(masked + not_granted) OVER () / sum(personal_columns) OVER () AS share_kept,
  concat(sum(masked) OVER (), ' of ', sum(personal_columns) OVER ()) AS masked_of_all
FROM counted
ORDER BY readable DESC, masked DESC, `table`
