-- How many invoices have a quantity greater than 10 in all, over their lines: two lines of six count here. Lines in other
-- units of measure are added as they are. All else as in the answer.
SELECT count(*) AS invoices_with_total_quantity_over_10
FROM (
  SELECT invoice_sk
  FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice_line')
  WHERE document_sign = 1 AND NOT is_cancelled AND NOT is_replaced
  GROUP BY invoice_sk
  HAVING sum(quantity) > 10
);
