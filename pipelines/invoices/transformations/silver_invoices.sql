-- One row for each document of a seller. A landed document replaces an earlier one with the same seller and number;
-- what landed last counts, by the day of its landing folder, then the time of its file, then names, so that the order in
-- which files are read does not matter. A repeat of the same content keeps the file and time of its first landing.
CREATE OR REFRESH MATERIALIZED VIEW ${silver_schema}.invoices (
  invoice_sk STRING NOT NULL COMMENT 'SHA-256 of seller and invoice number',
  seller_sk STRING NOT NULL COMMENT 'SHA-256 of the seller''s id, or of its name if it has none',
  customer_sk STRING NOT NULL COMMENT 'SHA-256 of the customer id, or of -1 if there is none',
  invoice_number STRING NOT NULL COMMENT 'Number that the seller gave the document (BT-1)',
  document_type_code STRING NOT NULL COMMENT 'UNTDID 1001: 380 invoice, 381 credit note, 384 corrected invoice (BT-3)',
  document_sign TINYINT NOT NULL COMMENT '-1 for credit notes, whose amounts are written positive, else 1',
  status STRING NOT NULL COMMENT 'issued or cancelled',
  is_cancelled BOOLEAN NOT NULL COMMENT 'Whether the document was cancelled',
  invoice_date DATE NOT NULL COMMENT 'Day of issue, as printed (BT-2)',
  due_date DATE COMMENT 'Day by which to pay (BT-9)',
  currency_code STRING NOT NULL COMMENT 'ISO 4217 code of every amount (BT-5)',
  seller_id STRING COMMENT 'Identifier of the seller (BT-29)',
  seller_name STRING NOT NULL COMMENT 'Name of the seller (BT-27)',
  seller_address STRING COMMENT 'Address of the seller, as printed (BG-5)',
  seller_country_code STRING COMMENT 'Country of the seller (BT-40)',
  customer_id STRING COMMENT 'Identifier of the customer (BT-46)',
  customer_name STRING COMMENT 'Name of the customer (BT-44)',
  bill_to STRUCT<name: STRING, address: STRING> COMMENT 'Who is billed, as printed (BG-7)',
  ship_to STRUCT<name: STRING, address: STRING> COMMENT 'Where it was delivered, as printed (BG-13)',
  purchase_order_number STRING COMMENT 'Order of the customer (BT-13)',
  preceding_invoice_number STRING COMMENT 'Invoice that a credit note or a correction refers to (BT-25)',
  payment_method STRING COMMENT 'Means of payment, as printed (BT-82)',
  payment_terms STRING COMMENT 'Terms of payment, as printed (BT-20)',
  lines ARRAY<STRUCT<line_number: INT, item_id: STRING, item_name: STRING, quantity: DECIMAL(18, 4), unit_of_measure: STRING, unit_price: DECIMAL(18, 6), line_net_amount: DECIMAL(18, 2), tax_rate: DECIMAL(7, 4)>> NOT NULL COMMENT 'Lines by line number (BG-25); numbered by position where the document does not number them',
  lines_amount DECIMAL(18, 2) NOT NULL COMMENT 'Sum of the line net amounts, computed',
  subtotal_amount DECIMAL(18, 2) NOT NULL COMMENT 'Sum of the line net amounts, as printed if it is (BT-106)',
  discount_rate DECIMAL(7, 4) COMMENT 'Discount on the document in percent (BT-94)',
  discount_amount DECIMAL(18, 2) NOT NULL COMMENT 'Discount on the document, 0 if none (BT-107)',
  charge_amount DECIMAL(18, 2) NOT NULL COMMENT 'Charges on the document, 0 if none (BT-108)',
  tax_rate DECIMAL(7, 4) COMMENT 'Tax rate in percent (BT-119)',
  tax_amount DECIMAL(18, 2) NOT NULL COMMENT 'Tax of the document, 0 if none (BT-110)',
  total_amount DECIMAL(18, 2) NOT NULL COMMENT 'Total of the document with tax, as printed (BT-112)',
  amount_paid DECIMAL(18, 2) COMMENT 'Already paid (BT-113)',
  balance_due_amount DECIMAL(18, 2) COMMENT 'Still to be paid (BT-115)',
  source_file STRING NOT NULL COMMENT 'File that the document was read from, else the landed file',
  landed_file STRING NOT NULL COMMENT 'File in the landing zone that first brought this version',
  ingested_at TIMESTAMP NOT NULL COMMENT 'When that file was written',
  content_hash STRING NOT NULL COMMENT 'SHA-256 of the document as landed: which version it is',
  CONSTRAINT invoices_pk PRIMARY KEY (invoice_sk) RELY,
  CONSTRAINT customer_is_known EXPECT (customer_id IS NOT NULL),
  CONSTRAINT document_type_is_known EXPECT (document_type_code RLIKE '^[0-9]{1,3}$'),
  CONSTRAINT status_is_known EXPECT (status IN ('issued', 'cancelled')),
  CONSTRAINT quantities_are_positive EXPECT (forall(lines, line -> coalesce(line.quantity > 0, false))),
  CONSTRAINT prices_are_positive EXPECT (forall(lines, line -> coalesce(line.unit_price > 0, false))),
  CONSTRAINT items_are_named EXPECT (forall(lines, line -> coalesce(line.item_id, line.item_name) IS NOT NULL))
)
COMMENT 'Invoices and credit notes, typed and checked, in their last landed version; one row for each document of a seller'
CLUSTER BY (invoice_date)
AS
WITH versions AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY invoice_sk
      ORDER BY landed_on DESC, landed_at DESC, landed_file DESC, content_hash DESC
    ) AS recency,
    min(struct(landed_on, landed_at, landed_file, source_file)) OVER (PARTITION BY invoice_sk, content_hash) AS first_landing
  FROM invoices_checked
  WHERE size(failed_rules) = 0
)

SELECT
  invoice_sk,
  seller_sk,
  sha2(coalesce(customer_id, '-1'), 256) AS customer_sk,
  invoice_number,
  document_type_code,
  CAST(if(document_type_code IN ('81', '83', '261', '381', '396'), -1, 1) AS TINYINT) AS document_sign,
  status,
  status = 'cancelled' AS is_cancelled,
  invoice_date,
  due_date,
  currency_code,
  seller_id,
  seller_name,
  seller_address,
  seller_country_code,
  customer_id,
  customer_name,
  bill_to,
  ship_to,
  purchase_order_number,
  preceding_invoice_number,
  payment_method,
  payment_terms,
  lines,
  lines_amount,
  subtotal_amount,
  discount_rate,
  discount_amount,
  charge_amount,
  tax_rate,
  tax_amount,
  total_amount,
  amount_paid,
  balance_due_amount,
  coalesce(first_landing.source_file, first_landing.landed_file) AS source_file,
  first_landing.landed_file,
  first_landing.landed_at AS ingested_at,
  content_hash
FROM versions
WHERE recency = 1;
