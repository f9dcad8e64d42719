CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.dim_currency (
  currency_code STRING NOT NULL COMMENT 'ISO 4217 code (BT-5)',
  is_reporting_currency BOOLEAN NOT NULL COMMENT 'Whether answers are in it; its own rate is 1',
  document_without_rate_count BIGINT NOT NULL COMMENT 'Documents that no answer counts for want of a rate to ${reporting_currency} on their day; additive',
  first_rate_date DATE COMMENT 'First day with a rate to ${reporting_currency}; NULL if there is none',
  last_rate_date DATE COMMENT 'Last day with a rate to ${reporting_currency}; NULL if there is none',
  CONSTRAINT dim_currency_pk PRIMARY KEY (currency_code) RELY,
  CONSTRAINT no_rate_is_missing EXPECT (document_without_rate_count = 0)
)
COMMENT 'Currencies of documents and rates, and the reporting currency; one row for each'
CLUSTER BY AUTO
AS
WITH documents AS (
  SELECT
    currency_code,
    count_if(fx_rate IS NULL) AS document_without_rate_count
  FROM ${gold_schema}.fact_invoice
  GROUP BY currency_code
),

rates AS (
  SELECT from_currency_code AS currency_code, min(rate_date) AS first_rate_date, max(rate_date) AS last_rate_date
  FROM ${gold_schema}.fx_rate_daily
  WHERE to_currency_code = '${reporting_currency}'
  GROUP BY from_currency_code
),

currencies AS (
  SELECT currency_code FROM documents
  UNION
  SELECT currency_code FROM rates
  UNION
  SELECT '${reporting_currency}'
)

SELECT
  currencies.currency_code,
  currencies.currency_code = '${reporting_currency}' AS is_reporting_currency,
  coalesce(documents.document_without_rate_count, 0) AS document_without_rate_count,
  rates.first_rate_date,
  rates.last_rate_date
FROM currencies
LEFT JOIN documents ON documents.currency_code = currencies.currency_code
LEFT JOIN rates ON rates.currency_code = currencies.currency_code;
