-- What no rule of a single row can say: the keys of the facts are unique (those of the dimensions are by their
-- GROUP BY), and nothing that landed is lost. An update in which one of them is false fails.
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
