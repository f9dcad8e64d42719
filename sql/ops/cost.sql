-- List price in US dollars of what carries the tag of this project, dearest first.
-- Usage arrives in the system tables some hours late. Discounts of a contract are not in it.
SELECT
  usage.billing_origin_product AS product,
  coalesce(usage.usage_metadata.job_name, usage.usage_metadata.dlt_pipeline_id, usage.usage_metadata.warehouse_id) AS what,
  usage.custom_tags.environment AS environment,
  CAST(sum(usage.usage_quantity) AS DECIMAL(18, 2)) AS dbu,
  CAST(sum(usage.usage_quantity * price.pricing.effective_list.default) AS DECIMAL(18, 2)) AS usd
FROM system.billing.usage AS usage
LEFT JOIN system.billing.list_prices AS price
  ON price.cloud = usage.cloud
  AND price.sku_name = usage.sku_name
  AND usage.usage_start_time >= price.price_start_time
  AND (price.price_end_time IS NULL OR usage.usage_start_time < price.price_end_time)
WHERE usage.usage_date >= date_sub(current_date(), CAST(:days AS INT))
  AND usage.custom_tags.project = 'member_lakehouse'
GROUP BY ALL
ORDER BY usd DESC
