-- The date with the highest total purchase amount, gross: what was invoiced on it, before any credit note. All else as in
-- the answer.
SELECT
  invoice_date,
  sum(line_total_amount_rpt) AS gross_purchase_amount
FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice_line')
WHERE document_sign = 1 AND NOT is_cancelled AND NOT is_replaced
GROUP BY invoice_date
HAVING gross_purchase_amount IS NOT NULL
QUALIFY rank() OVER (ORDER BY gross_purchase_amount DESC) = 1
ORDER BY invoice_date;
