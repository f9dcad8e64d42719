-- The date with the highest total purchase amount, over all data.
-- Purchase amount as for the customers: totals after discount and with tax in the reporting currency, less the credit
-- notes issued on that date, without cancelled or replaced ones. Unknown customers count here. If dates tie, all are shown.
SELECT
  invoice_date,
  sum(signed_total_amount_rpt) AS total_purchase_amount,
  sum(signed_ex_tax_amount_rpt) AS total_ex_tax_amount
FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice_line')
WHERE NOT is_cancelled AND NOT is_replaced
GROUP BY invoice_date
HAVING total_purchase_amount IS NOT NULL
QUALIFY rank() OVER (ORDER BY total_purchase_amount DESC) = 1
ORDER BY invoice_date;
