-- One row for each document of a seller. A landed document replaces an earlier one with the same seller and number. The
-- version that was new last counts, by the day of its first landing folder, then the time of that file, then names: so
-- neither the order in which files are read matters, nor that a version lands again, whatever landed meanwhile.
CREATE OR REFRESH MATERIALIZED VIEW ${silver_schema}.invoices (
  invoice_sk STRING NOT NULL COMMENT 'SHA-256 of seller and invoice number',
  seller_sk STRING NOT NULL COMMENT 'SHA-256 of the seller''s id, or of its name if it has none',
  customer_sk STRING NOT NULL COMMENT 'SHA-256 of the customer id, or of -1 if there is none',
  invoice_number STRING NOT NULL COMMENT 'Number that the seller gave the document (BT-1)',
  document_type_code STRING NOT NULL COMMENT 'UNTDID 1001: 380 invoice, 381 credit note, 384 corrected invoice (BT-3)',
  document_sign TINYINT NOT NULL COMMENT '-1 for credit notes, whose amounts are written positive, else 1',
  specification_id STRING COMMENT 'Specification that the document follows, with its profile (BT-24)',
  status STRING NOT NULL COMMENT 'issued or cancelled',
  is_cancelled BOOLEAN NOT NULL COMMENT 'Whether the document was cancelled',
  invoice_date DATE NOT NULL COMMENT 'Day of issue, as printed (BT-2)',
  due_date DATE COMMENT 'Day by which to pay (BT-9)',
  delivery_date DATE COMMENT 'Day of delivery (BT-72)',
  currency_code STRING NOT NULL COMMENT 'ISO 4217 code of every amount (BT-5)',
  seller_id STRING COMMENT 'Identifier of the seller (BT-29)',
  seller_name STRING NOT NULL COMMENT 'Name of the seller (BT-27)',
  seller_vat_id STRING COMMENT 'VAT identifier of the seller (BT-31)',
  seller_address STRING COMMENT 'Address of the seller, as printed (BG-5)',
  seller_country_code STRING COMMENT 'Country of the seller (BT-40)',
  customer_id STRING COMMENT 'Identifier of the customer (BT-46)',
  customer_name STRING COMMENT 'Name of the customer (BT-44)',
  bill_to STRUCT<name: STRING, address: STRING, country_code: STRING> COMMENT 'Who is billed, as printed (BG-7)',
  ship_to STRUCT<name: STRING, address: STRING, country_code: STRING> COMMENT 'Where it was delivered, as printed (BG-13)',
  purchase_order_number STRING COMMENT 'Order of the customer (BT-13)',
  preceding_invoice_number STRING COMMENT 'Invoice that a credit note or a correction refers to (BT-25)',
  payment_method STRING COMMENT 'Means of payment, as printed (BT-82)',
  payment_terms STRING COMMENT 'Terms of payment, as printed (BT-20)',
  is_without_lines BOOLEAN NOT NULL COMMENT 'Whether the profile of the document has no lines (Factur-X MINIMUM, BASIC WL)',
  lines ARRAY<STRUCT<line_number: INT, line_id: STRING, item_id: STRING, item_name: STRING, quantity: DECIMAL(18, 4), unit_of_measure: STRING, unit_price: DECIMAL(18, 6), price_base_quantity: DECIMAL(18, 4), line_net_amount: DECIMAL(18, 2), tax_category_code: STRING, tax_rate: DECIMAL(7, 4), allowance_charges: ARRAY<STRUCT<is_charge: BOOLEAN, amount: DECIMAL(18, 2), base_amount: DECIMAL(18, 2), rate: DECIMAL(7, 4), reason_code: STRING, reason: STRING, tax_category_code: STRING, tax_rate: DECIMAL(7, 4)>>>> NOT NULL COMMENT 'Lines that count, by line number (BG-25); numbered by position where the document does not number them',
  lines_are_priced BOOLEAN NOT NULL COMMENT 'Whether every line is its quantity times its price, with or without its allowances and charges',
  other_lines ARRAY<STRUCT<line_number: STRING, line_id: STRING, parent_line_id: STRING, line_kind: STRING, item_id: STRING, buyer_item_id: STRING, standard_item_id: STRING, standard_item_id_scheme: STRING, item_name: STRING, item_description: STRING, quantity: STRING, unit_of_measure: STRING, unit_price: STRING, gross_price: STRING, price_base_quantity: STRING, price_base_unit: STRING, line_net_amount: STRING, tax_category_code: STRING, tax_rate: STRING, period_start: STRING, period_end: STRING, order_line_number: STRING, note: STRING, allowance_charges: ARRAY<STRUCT<is_charge: STRING, amount: STRING, base_amount: STRING, rate: STRING, reason_code: STRING, reason: STRING, tax_category_code: STRING, tax_rate: STRING>>>> COMMENT 'Headings over lines and lines that only inform, as landed: their amounts are in no sum',
  lines_amount DECIMAL(18, 2) NOT NULL COMMENT 'Sum of the line net amounts, computed; the subtotal if there are no lines',
  subtotal_amount DECIMAL(18, 2) NOT NULL COMMENT 'Sum of the line net amounts, as printed if it is (BT-106)',
  discount_rate DECIMAL(7, 4) COMMENT 'Discount on the document in percent (BT-94)',
  discount_amount DECIMAL(18, 2) NOT NULL COMMENT 'Discount on the document, 0 if none (BT-107)',
  charge_amount DECIMAL(18, 2) NOT NULL COMMENT 'Charges on the document, 0 if none (BT-108)',
  allowance_charges ARRAY<STRUCT<is_charge: BOOLEAN, amount: DECIMAL(18, 2), base_amount: DECIMAL(18, 2), rate: DECIMAL(7, 4), reason_code: STRING, reason: STRING, tax_category_code: STRING, tax_rate: DECIMAL(7, 4)>> NOT NULL COMMENT 'Allowances and charges on the document (BG-20, BG-21)',
  total_ex_tax_amount DECIMAL(18, 2) NOT NULL COMMENT 'Subtotal less discount plus charges (BT-109)',
  printed_total_ex_tax_amount DECIMAL(18, 2) COMMENT 'The same as printed, if it is',
  tax_rate DECIMAL(7, 4) COMMENT 'Tax rate in percent, if there is one only (BT-119)',
  tax_amount DECIMAL(18, 2) NOT NULL COMMENT 'Tax of the document, 0 if none (BT-110)',
  taxes ARRAY<STRUCT<tax_category_code: STRING, tax_rate: DECIMAL(7, 4), taxable_amount: DECIMAL(18, 2), tax_amount: DECIMAL(18, 2), exemption_reason_code: STRING, exemption_reason: STRING>> NOT NULL COMMENT 'Tax by category and rate (BG-23); empty if the document names its tax as a whole',
  total_amount DECIMAL(18, 2) NOT NULL COMMENT 'Total of the document with tax, as printed (BT-112)',
  amount_paid DECIMAL(18, 2) COMMENT 'Already paid (BT-113)',
  rounding_amount DECIMAL(18, 2) COMMENT 'Added to what is to be paid (BT-114)',
  third_party_amount DECIMAL(18, 2) COMMENT 'To be paid to others through this document (BT-DEX-002 of XRechnung)',
  withheld_tax_amount DECIMAL(18, 2) COMMENT 'Tax that the customer pays to the authorities in the seller''s place (WithholdingTaxTotal of UBL)',
  balance_due_amount DECIMAL(18, 2) COMMENT 'Still to be paid (BT-115)',
  source_file STRING NOT NULL COMMENT 'File that the document was read from, else the landed file',
  landed_file STRING NOT NULL COMMENT 'File in the landing zone that first brought this version',
  ingested_at TIMESTAMP NOT NULL COMMENT 'When that file was written',
  content_hash STRING NOT NULL COMMENT 'SHA-256 of the document as landed: which version it is',
  versions_landed INT NOT NULL COMMENT 'How many different versions of the document have landed, this one among them',
  times_landed INT NOT NULL COMMENT 'How often it landed in all, repeats of a version among them',
  CONSTRAINT invoices_pk PRIMARY KEY (invoice_sk) RELY,
  CONSTRAINT customer_is_known EXPECT (customer_id IS NOT NULL),
  CONSTRAINT document_type_is_known EXPECT (document_type_code RLIKE '^[0-9]{1,3}$'),
  CONSTRAINT status_is_known EXPECT (status IN ('issued', 'cancelled')),
  CONSTRAINT quantities_are_positive EXPECT (forall(lines, line -> coalesce(line.quantity > 0, false))),
  CONSTRAINT prices_are_positive EXPECT (forall(lines, line -> coalesce(line.unit_price > 0, false))),
  CONSTRAINT line_is_quantity_times_price EXPECT (lines_are_priced),
  CONSTRAINT total_ex_tax_is_as_printed EXPECT (coalesce(abs(total_ex_tax_amount - printed_total_ex_tax_amount) <= 0.02, true)),
  CONSTRAINT items_are_named EXPECT (forall(lines, line -> coalesce(line.item_id, line.item_name) IS NOT NULL))
)
COMMENT 'Invoices and credit notes, typed and checked, in their last landed version; one row for each document of a seller'
CLUSTER BY (invoice_date)
AS
WITH landings AS (
  SELECT
    *,
    min(struct(landed_on, landed_at, landed_file, source_file)) OVER (PARTITION BY invoice_sk, content_hash) AS first_landing
  FROM invoices_checked
  WHERE size(failed_rules) = 0
),

versions AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY invoice_sk
      ORDER BY first_landing DESC, content_hash DESC, landed_on, landed_at, landed_file, source_file
    ) AS recency,
    size(collect_set(content_hash) OVER (PARTITION BY invoice_sk)) AS versions_landed,
    count(*) OVER (PARTITION BY invoice_sk) AS times_landed
  FROM landings
)

SELECT
  invoice_sk,
  seller_sk,
  sha2(coalesce(customer_id, '-1'), 256) AS customer_sk,
  invoice_number,
  document_type_code,
  CAST(
    if(
      document_type_code IN ('81', '83', '261', '262', '296', '308', '381', '396', '420', '458', '502', '503', '532'), -1, 1
    ) AS TINYINT
  ) AS document_sign,
  specification_id,
  status,
  status = 'cancelled' AS is_cancelled,
  invoice_date,
  due_date,
  delivery_date,
  currency_code,
  seller_id,
  seller_name,
  seller_vat_id,
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
  is_without_lines,
  coalesce(lines, array()) AS lines,
  lines_are_priced,
  other_lines,
  coalesce(lines_amount, subtotal_amount) AS lines_amount,
  subtotal_amount,
  discount_rate,
  discount_amount,
  charge_amount,
  allowance_charges,
  CAST(subtotal_amount - discount_amount + charge_amount AS DECIMAL(18, 2)) AS total_ex_tax_amount,
  printed_total_ex_tax_amount,
  tax_rate,
  tax_amount,
  taxes,
  total_amount,
  amount_paid,
  rounding_amount,
  third_party_amount,
  withheld_tax_amount,
  balance_due_amount,
  coalesce(first_landing.source_file, first_landing.landed_file) AS source_file,
  first_landing.landed_file,
  first_landing.landed_at AS ingested_at,
  content_hash,
  versions_landed,
  CAST(times_landed AS INT) AS times_landed
FROM versions
WHERE recency = 1;
