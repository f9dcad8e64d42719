-- A product is a seller's item: by its identifier, else by its name without regard to case and spacing.
CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.dim_product (
  product_sk STRING NOT NULL COMMENT 'SHA-256 of seller and item, of -1 for the unknown product',
  product_id STRING COMMENT 'The seller''s identifier of the item (BT-155); NULL where only its name is known',
  product_name STRING NOT NULL COMMENT 'Name on the newest line that has one (BT-153), else the identifier',
  seller_sk STRING COMMENT 'Seller of the product; NULL for the unknown one',
  product_id_is_inferred BOOLEAN NOT NULL COMMENT 'Whether the product is told by its name, having no identifier',
  CONSTRAINT dim_product_pk PRIMARY KEY (product_sk) RELY
)
COMMENT 'Products, with a row for the unknown one; one row for each product of a seller'
CLUSTER BY AUTO
AS
SELECT
  product_sk,
  max(item_id) AS product_id,
  coalesce(
    max_by(item_name, struct(invoice_date, invoice_line_sk)) FILTER (WHERE item_name IS NOT NULL),
    max(item_id)
  ) AS product_name,
  max(seller_sk) AS seller_sk,
  max(item_id) IS NULL AS product_id_is_inferred
FROM ${gold_schema}.fact_invoice_line
WHERE coalesce(item_id, item_name) IS NOT NULL
GROUP BY product_sk
UNION ALL
SELECT
  sha2('-1', 256),
  NULL,
  'Unknown',
  NULL,
  false;
