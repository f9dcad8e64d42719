CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.dim_seller (
  seller_sk STRING NOT NULL COMMENT 'SHA-256 of the seller''s id within its scheme, or of its name if it has none',
  seller_id STRING COMMENT 'Identifier of the seller (BT-29)',
  seller_name STRING NOT NULL COMMENT 'Name on the newest document (BT-27)',
  seller_vat_id STRING COMMENT 'VAT identifier on the newest document that has one (BT-31)',
  seller_address STRING COMMENT 'Address on the newest document that has one (BG-5)',
  seller_country_code STRING COMMENT 'Country on the newest document that has one (BT-40)',
  CONSTRAINT dim_seller_pk PRIMARY KEY (seller_sk) RELY
)
COMMENT 'Legal entities that issue documents; one row for each seller'
CLUSTER BY AUTO
AS
SELECT
  seller_sk,
  max(seller_id) AS seller_id,
  max_by(seller_name, struct(invoice_date, invoice_sk)) AS seller_name,
  max_by(seller_vat_id, struct(invoice_date, invoice_sk)) FILTER (WHERE seller_vat_id IS NOT NULL) AS seller_vat_id,
  max_by(seller_address, struct(invoice_date, invoice_sk)) FILTER (WHERE seller_address IS NOT NULL) AS seller_address,
  max_by(seller_country_code, struct(invoice_date, invoice_sk)) FILTER (WHERE seller_country_code IS NOT NULL)
    AS seller_country_code
FROM ${silver_schema}.invoices
GROUP BY seller_sk;
