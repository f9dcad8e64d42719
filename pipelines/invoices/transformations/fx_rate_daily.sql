-- A rate holds until the next one is published, which weekends and holidays delay, but no longer than a week. Of several
-- for one day the one that landed last counts.
CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.fx_rate_daily (
  fx_rate_sk STRING NOT NULL COMMENT 'SHA-256 of the currencies and the day',
  from_currency_code STRING NOT NULL COMMENT 'ISO 4217 code of what one unit of is priced',
  to_currency_code STRING NOT NULL COMMENT 'ISO 4217 code of what it is priced in',
  rate_date DATE NOT NULL COMMENT 'Day that the rate holds for',
  rate DECIMAL(18, 8) NOT NULL COMMENT 'Units of to_currency_code for one unit of from_currency_code; not additive',
  published_on DATE NOT NULL COMMENT 'Day on which the rate was published, at most six days before',
  landed_file STRING NOT NULL COMMENT 'File in the landing zone that brought the rate',
  CONSTRAINT fx_rate_daily_pk PRIMARY KEY (fx_rate_sk) RELY
)
COMMENT 'Exchange rates by day; one row for each pair of currencies and day for which one is known'
CLUSTER BY (from_currency_code, rate_date)
AS
WITH published AS (
  SELECT
    upper(trim(from_currency)) AS from_currency_code,
    upper(trim(to_currency)) AS to_currency_code,
    CAST(rate_date AS DATE) AS published_on,
    max_by(CAST(rate AS DECIMAL(18, 8)), struct(landed_at, landed_file, rate)) AS rate,
    max_by(landed_file, struct(landed_at, landed_file, rate)) AS landed_file
  FROM ${bronze_schema}.exchange_rates
  WHERE
    try_cast(rate_date AS DATE) IS NOT NULL
    AND try_cast(rate AS DECIMAL(18, 8)) > 0
    AND from_currency IS NOT NULL
    AND to_currency IS NOT NULL
  GROUP BY upper(trim(from_currency)), upper(trim(to_currency)), CAST(rate_date AS DATE)
),

valid AS (
  SELECT
    *,
    lead(published_on, 1, DATE'9999-12-31') OVER (
      PARTITION BY from_currency_code, to_currency_code ORDER BY published_on
    ) AS next_published_on
  FROM published
),

days AS (
  SELECT
    *,
    explode(sequence(published_on, least(date_sub(next_published_on, 1), date_add(published_on, 6)))) AS rate_date
  FROM valid
)

SELECT
  sha2(concat_ws('||', from_currency_code, to_currency_code, rate_date), 256) AS fx_rate_sk,
  from_currency_code,
  to_currency_code,
  rate_date,
  rate,
  published_on,
  landed_file
FROM days;
