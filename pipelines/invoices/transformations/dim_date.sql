-- Whole years, from that of the first document to that of the last.
CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.dim_date (
  date_key DATE NOT NULL COMMENT 'The day',
  year INT NOT NULL COMMENT 'Calendar year',
  quarter INT NOT NULL COMMENT 'Quarter of the year, 1 to 4',
  month INT NOT NULL COMMENT 'Month of the year, 1 to 12',
  month_start DATE NOT NULL COMMENT 'First day of the month',
  day_of_month INT NOT NULL COMMENT 'Day of the month, 1 to 31',
  day_of_week INT NOT NULL COMMENT 'Day of the ISO week, 1 Monday to 7 Sunday',
  iso_week INT NOT NULL COMMENT 'ISO 8601 week, 1 to 53',
  iso_year INT NOT NULL COMMENT 'Year that the ISO 8601 week belongs to',
  is_weekend BOOLEAN NOT NULL COMMENT 'Whether the day is a Saturday or a Sunday',
  CONSTRAINT dim_date_pk PRIMARY KEY (date_key) RELY
)
COMMENT 'Calendar of the documents; one row for each day'
CLUSTER BY AUTO
AS
WITH days AS (
  SELECT
    explode(sequence(
      trunc(min(invoice_date), 'YEAR'),
      date_sub(add_months(trunc(max(invoice_date), 'YEAR'), 12), 1),
      INTERVAL 1 DAY
    )) AS date_key
  FROM ${silver_schema}.invoices
)

SELECT
  date_key,
  year(date_key) AS year,
  quarter(date_key) AS quarter,
  month(date_key) AS month,
  trunc(date_key, 'MONTH') AS month_start,
  day(date_key) AS day_of_month,
  weekday(date_key) + 1 AS day_of_week,
  weekofyear(date_key) AS iso_week,
  CAST(extract(YEAROFWEEK FROM date_key) AS INT) AS iso_year,
  weekday(date_key) >= 5 AS is_weekend
FROM days;
