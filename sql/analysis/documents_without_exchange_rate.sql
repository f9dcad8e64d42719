-- Documents that no answer counts, because no rate of their currency was published in the week up to their day of issue.
-- Land the rates, and the next update counts them.
SELECT DISTINCT invoice_number, invoice_date, currency_code
FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice_line')
WHERE fx_rate IS NULL AND NOT is_cancelled AND NOT is_replaced
ORDER BY invoice_date, invoice_number;
