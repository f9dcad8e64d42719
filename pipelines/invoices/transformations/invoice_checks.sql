-- What no rule of a single row can say: the keys that are declared RELY are unique, nothing that landed is lost, and the
-- questions add up to the cent what the documents print. An update in which one of them is false fails.
CREATE OR REFRESH PRIVATE MATERIALIZED VIEW invoice_checks (
  name STRING NOT NULL COMMENT 'What must hold',
  expected BIGINT NOT NULL COMMENT 'One side of it',
  actual BIGINT NOT NULL COMMENT 'The other side',
  CONSTRAINT both_sides_agree EXPECT (expected = actual) ON VIOLATION FAIL UPDATE
)
COMMENT 'Invariants of the invoices pipeline; one row for each'
AS
WITH sides AS (
  SELECT 'fact_invoice_line: one row for each key' AS name, count(*) AS expected, count(DISTINCT invoice_line_sk) AS actual
  FROM ${gold_schema}.fact_invoice_line
  UNION ALL
  SELECT 'fact_invoice: one row for each key', count(*), count(DISTINCT invoice_sk) FROM ${gold_schema}.fact_invoice
  UNION ALL
  SELECT 'fact_invoice_tax: one row for each key', count(*), count(DISTINCT invoice_tax_sk)
  FROM ${gold_schema}.fact_invoice_tax
  UNION ALL
  SELECT 'fact_invoice_allowance_charge: one row for each key', count(*), count(DISTINCT allowance_charge_sk)
  FROM ${gold_schema}.fact_invoice_allowance_charge
  UNION ALL
  SELECT 'bridge_customer_member: one row for each key', count(*), count(DISTINCT customer_member_sk)
  FROM ${gold_schema}.bridge_customer_member
  UNION ALL
  SELECT 'invoices: one row for each key', count(*), count(DISTINCT invoice_sk) FROM ${silver_schema}.invoices
  UNION ALL
  SELECT 'fx_rate_daily: one row for each key', count(*), count(DISTINCT fx_rate_sk) FROM ${gold_schema}.fx_rate_daily
  UNION ALL
  SELECT 'dim_currency: one row for each key', count(*), count(DISTINCT currency_code) FROM ${gold_schema}.dim_currency
  UNION ALL
  SELECT 'dim_customer: one row for each key', count(*), count(DISTINCT customer_sk) FROM ${gold_schema}.dim_customer
  UNION ALL
  SELECT 'dim_date: one row for each key', count(*), count(DISTINCT date_key) FROM ${gold_schema}.dim_date
  UNION ALL
  SELECT 'dim_product: one row for each key', count(*), count(DISTINCT product_sk) FROM ${gold_schema}.dim_product
  UNION ALL
  SELECT 'dim_seller: one row for each key', count(*), count(DISTINCT seller_sk) FROM ${gold_schema}.dim_seller
  UNION ALL
  -- For every document this is fact_invoice.reconciles; here it is for what the questions leave out, too.
  SELECT 'cents that the documents print = cents that the questions add', CAST(coalesce(100 * sum(
    document_sign * round(total_amount * fx_rate, 2)
  ), 0) AS BIGINT), 0
  FROM ${gold_schema}.fact_invoice
  WHERE NOT is_cancelled AND NOT is_replaced
  UNION ALL
  SELECT 'cents that the documents print = cents that the questions add', 0, CAST(coalesce(100 * sum(
    signed_total_amount_rpt
  ), 0) AS BIGINT)
  FROM ${gold_schema}.fact_invoice_line
  WHERE NOT is_cancelled AND NOT is_replaced
  UNION ALL
  SELECT 'landed = current + superseded + quarantined', count(*), 0 FROM ${bronze_schema}.invoices
  UNION ALL
  SELECT 'landed = current + superseded + quarantined', count(*), 0 FROM ${bronze_schema}.invoices_refused
  UNION ALL
  SELECT 'landed = current + superseded + quarantined', 0, coalesce(sum(times_landed), 0) FROM ${silver_schema}.invoices
  UNION ALL
  SELECT 'landed = current + superseded + quarantined', 0, count(*) FROM ${silver_schema}.invoices_quarantine
)

SELECT name, sum(expected) AS expected, sum(actual) AS actual
FROM sides
GROUP BY name;
