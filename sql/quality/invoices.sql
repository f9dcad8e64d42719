-- One row for each document, without anybody's name: flags are 0 or 1, so that their averages are shares.
SELECT
  invoice_date AS date,
  currency_code,
  CASE document_sign WHEN -1 THEN 'credit note' ELSE 'invoice' END AS document,
  CAST(document_sign = -1 AS INT) AS is_credit_note,
  CAST(NOT reconciles AS INT) AS does_not_reconcile,
  CAST(customer.customer_id IS NULL AS INT) AS has_unknown_customer,
  CAST(invoice.total_amount_rpt IS NULL AS INT) AS has_no_exchange_rate,
  1 AS documents
FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice') AS invoice
LEFT JOIN IDENTIFIER(:catalog || '.' || :gold_schema || '.dim_customer') AS customer
  ON customer.customer_sk = invoice.customer_sk
ORDER BY date
