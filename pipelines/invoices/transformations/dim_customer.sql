-- Customers are known from their documents; the newest one gives the name. Who is no member stays inferred until a pair of
-- customer and member lands.
CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.dim_customer (
  customer_sk STRING NOT NULL COMMENT 'SHA-256 of the customer id, of -1 for the unknown customer',
  customer_id STRING COMMENT 'Identifier of the customer (BT-46); NULL for the unknown one',
  customer_name STRING NOT NULL MASK ${silver_schema}.mask_name COMMENT 'Name on the newest document that has one (BT-44), else the id',
  is_inferred BOOLEAN NOT NULL COMMENT 'Whether the customer is known from documents only, as no member (bridge_customer_member)',
  CONSTRAINT dim_customer_pk PRIMARY KEY (customer_sk) RELY
)
COMMENT 'Customers, with a row for the unknown one; one row for each customer'
CLUSTER BY AUTO
AS
WITH members AS (
  SELECT DISTINCT customer_sk FROM ${gold_schema}.bridge_customer_member
),

customers AS (
  SELECT
    customer_sk,
    max(customer_id) AS customer_id,
    coalesce(
      max_by(customer_name, struct(invoice_date, invoice_sk)) FILTER (WHERE customer_name IS NOT NULL),
      max(customer_id)
    ) AS customer_name
  FROM ${silver_schema}.invoices
  WHERE customer_id IS NOT NULL
  GROUP BY customer_sk
)

SELECT
  customers.customer_sk,
  customers.customer_id,
  customers.customer_name,
  members.customer_sk IS NULL AS is_inferred
FROM customers
LEFT JOIN members ON members.customer_sk = customers.customer_sk
UNION ALL
SELECT
  sha2('-1', 256),
  NULL,
  'Unknown',
  false;
