-- The date with the highest total purchase amount, excluding tax. All else as in the answer.
SELECT
  invoice_date,
  sum(signed_ex_tax_amount_rpt) AS total_ex_tax_amount
FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice_line')
WHERE NOT is_cancelled AND NOT is_replaced
GROUP BY invoice_date
HAVING total_ex_tax_amount IS NOT NULL
QUALIFY rank() OVER (ORDER BY total_ex_tax_amount DESC) = 1
ORDER BY invoice_date;
