-- Every landed document with typed fields and the names of the rules that it breaks.
-- A rule about a required field is broken by NULL; a rule of arithmetic judges only what could be read, so that one
-- fault has one name. Tolerances: 0.02 for a line and for sums (PEPPOL-EN16931-R120), one unit of the currency for the
-- tax of a rate (BR-CO-17), and for the balance where its rounding (BT-114) is not landed. An absent amount means that
-- there is none. Some write the amounts of lines with more decimals than money has, and round their sum: a line is rounded
-- here, and the sum may differ by what that changed. Lines that head others or only inform are kept apart from those that count.
-- A landed document is judged once, by itself alone, so this is a stream; which version of it counts, silver decides over
-- all of them. A change of this query holds for what has landed before only after a full refresh of this table.
CREATE OR REFRESH PRIVATE STREAMING TABLE invoices_checked
COMMENT 'Landed documents, typed, each with the list of the rules that it breaks; one row for each landed line; personal data'
AS
WITH landed AS (
  SELECT
    * EXCEPT (lines),
    sha2(to_json(struct(* EXCEPT (source_file, _rescued_data, landed_file, landed_at))), 256) AS content_hash,
    coalesce(
      try_cast(nullif(regexp_extract(landed_file, 'ingest_date=([0-9]{4}-[0-9]{2}-[0-9]{2})', 1), '') AS DATE),
      CAST(landed_at AS DATE)
    ) AS landed_on,
    filter(lines, line -> line IS NULL OR NOT coalesce(line.line_kind IN ('group', 'information'), false)) AS lines,
    filter(lines, line -> line.line_kind IN ('group', 'information')) AS other_lines
  FROM STREAM ${bronze_schema}.invoices
),

listed AS (
  SELECT
    *,
    -- A document's own line numbers count only if they number every line once.
    size(lines) = size(array_distinct(filter(transform(lines, line -> try_cast(line.line_number AS INT)), n -> n IS NOT NULL)))
      AS is_numbered,
    filter(
      concat(
        array(
          subtotal_amount, discount_amount, charge_amount, total_ex_tax_amount, tax_amount, total_amount, amount_paid,
          rounding_amount, third_party_amount, withheld_tax_amount, balance_due_amount
        ),
        coalesce(allowance_charges.amount, array()),
        coalesce(taxes.tax_amount, array())
      ),
      amount -> trim(amount) <> ''
    ) AS amounts,
    filter(
      concat(
        array(discount_rate, tax_rate),
        coalesce(
          flatten(transform(lines, line -> array(
            line.quantity, line.unit_price, line.price_base_quantity, line.line_net_amount, line.tax_rate
          ))),
          array()
        ),
        coalesce(flatten(transform(lines, line -> coalesce(line.allowance_charges.amount, array()))), array()),
        coalesce(taxes.tax_rate, array())
      ),
      number -> trim(number) <> ''
    ) AS numbers
  FROM landed
),

typed AS (
  SELECT
    landed_file,
    landed_on,
    landed_at,
    content_hash,
    _rescued_data,
    source_file,
    nullif(trim(seller.id), '') AS seller_id,
    nullif(trim(seller.id_scheme), '') AS seller_id_scheme,
    nullif(trim(seller.name), '') AS seller_name,
    seller.vat_id AS seller_vat_id,
    seller.address AS seller_address,
    seller.country_code AS seller_country_code,
    nullif(nullif(trim(customer.id), ''), '-1') AS customer_id,
    nullif(trim(customer.name), '') AS customer_name,
    bill_to,
    ship_to,
    nullif(trim(invoice_number), '') AS invoice_number,
    coalesce(nullif(trim(document_type_code), ''), '380') AS document_type_code,
    specification_id,
    CASE WHEN trim(invoice_date) RLIKE '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' THEN try_cast(invoice_date AS DATE) END AS invoice_date,
    CASE WHEN trim(due_date) RLIKE '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' THEN try_cast(due_date AS DATE) END AS due_date,
    CASE WHEN trim(delivery_date) RLIKE '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' THEN try_cast(delivery_date AS DATE) END AS delivery_date,
    upper(trim(currency_code)) AS currency_code,
    nullif(trim(purchase_order_number), '') AS purchase_order_number,
    nullif(trim(preceding_invoice_number), '') AS preceding_invoice_number,
    coalesce(nullif(trim(payment_method), ''), payment_means_code) AS payment_method,
    payment_terms,
    coalesce(lower(nullif(trim(status), '')), 'issued') AS status,
    coalesce(lines_omitted = 'true', false) AND coalesce(size(lines), 0) <= 0 AS is_without_lines,
    sort_array(transform(lines, (line, position) -> named_struct(
      'line_number', if(is_numbered, try_cast(line.line_number AS INT), position + 1),
      'line_id', coalesce(nullif(trim(line.line_id), ''), nullif(trim(line.line_number), '')),
      'item_id', nullif(trim(line.item_id), ''),
      'item_name', nullif(trim(line.item_name), ''),
      'quantity', try_cast(line.quantity AS DECIMAL(18, 4)),
      'unit_of_measure', coalesce(nullif(trim(line.unit_of_measure), ''), 'EA'),
      'unit_price', try_cast(line.unit_price AS DECIMAL(18, 6)),
      'price_base_quantity', coalesce(try_cast(line.price_base_quantity AS DECIMAL(18, 4)), 1),
      'line_net_amount', try_cast(coalesce(
        nullif(trim(line.line_net_amount), ''),
        CAST(round(try_cast(line.quantity AS DECIMAL(20, 8)) * try_cast(line.unit_price AS DECIMAL(18, 6)), 2) AS STRING)
      ) AS DECIMAL(18, 2)),
      'tax_category_code', nullif(trim(line.tax_category_code), ''),
      'tax_rate', try_cast(line.tax_rate AS DECIMAL(7, 4)),
      'allowance_charges', transform(line.allowance_charges, entry -> named_struct(
        'is_charge', coalesce(entry.is_charge = 'true', false),
        'amount', coalesce(try_cast(entry.amount AS DECIMAL(18, 2)), 0.00),
        'base_amount', try_cast(entry.base_amount AS DECIMAL(18, 2)),
        'rate', try_cast(entry.rate AS DECIMAL(7, 4)),
        'reason_code', entry.reason_code,
        'reason', entry.reason,
        'tax_category_code', entry.tax_category_code,
        'tax_rate', try_cast(entry.tax_rate AS DECIMAL(7, 4))
      ))
    ))) AS lines,
    other_lines,
    size(filter(lines, line -> line.line_net_amount RLIKE '[.][0-9]{2}0*[1-9]')) AS rounded_line_count,
    try_cast(subtotal_amount AS DECIMAL(18, 2)) AS printed_subtotal_amount,
    try_cast(discount_rate AS DECIMAL(7, 4)) AS discount_rate,
    coalesce(try_cast(discount_amount AS DECIMAL(18, 2)), 0.00) AS discount_amount,
    coalesce(try_cast(charge_amount AS DECIMAL(18, 2)), 0.00) AS charge_amount,
    coalesce(transform(allowance_charges, entry -> named_struct(
      'is_charge', coalesce(entry.is_charge = 'true', false),
      'amount', coalesce(try_cast(entry.amount AS DECIMAL(18, 2)), 0.00),
      'base_amount', try_cast(entry.base_amount AS DECIMAL(18, 2)),
      'rate', try_cast(entry.rate AS DECIMAL(7, 4)),
      'reason_code', entry.reason_code,
      'reason', entry.reason,
      'tax_category_code', entry.tax_category_code,
      'tax_rate', try_cast(entry.tax_rate AS DECIMAL(7, 4))
    )), array()) AS allowance_charges,
    try_cast(total_ex_tax_amount AS DECIMAL(18, 2)) AS printed_total_ex_tax_amount,
    try_cast(tax_rate AS DECIMAL(7, 4)) AS tax_rate,
    try_cast(tax_amount AS DECIMAL(18, 2)) AS printed_tax_amount,
    coalesce(transform(taxes, tax -> named_struct(
      'tax_category_code', nullif(trim(tax.tax_category_code), ''),
      'tax_rate', try_cast(tax.tax_rate AS DECIMAL(7, 4)),
      'taxable_amount', try_cast(tax.taxable_amount AS DECIMAL(18, 2)),
      'tax_amount', coalesce(try_cast(tax.tax_amount AS DECIMAL(18, 2)), 0.00),
      'exemption_reason_code', tax.exemption_reason_code,
      'exemption_reason', tax.exemption_reason
    )), array()) AS taxes,
    try_cast(total_amount AS DECIMAL(18, 2)) AS total_amount,
    try_cast(amount_paid AS DECIMAL(18, 2)) AS amount_paid,
    try_cast(rounding_amount AS DECIMAL(18, 2)) AS rounding_amount,
    try_cast(third_party_amount AS DECIMAL(18, 2)) AS third_party_amount,
    try_cast(withheld_tax_amount AS DECIMAL(18, 2)) AS withheld_tax_amount,
    try_cast(balance_due_amount AS DECIMAL(18, 2)) AS balance_due_amount,
    -- Money has two decimals; a third one of a document's own amounts would be rounded away without a word.
    forall(amounts, amount -> trim(amount) RLIKE '^[+-]?([0-9]{1,13}([.][0-9]{0,2}0*)?|[.][0-9]{1,2}0*)$') AS amounts_are_money,
    forall(numbers, number -> trim(number) RLIKE '^[+-]?([0-9]{1,12}([.][0-9]*)?|[.][0-9]+)$') AS numbers_are_decimals,
    -- Prices for other units than the quantity is in cannot be multiplied, and some prices hold the line's allowances.
    coalesce(forall(lines, line -> coalesce(
      exists(
        array(0, aggregate(
          coalesce(line.allowance_charges, array()),
          CAST(0 AS DECIMAL(28, 2)),
          (sum, entry) -> CAST(
            sum + if(entry.is_charge = 'true', 1, -1) * coalesce(try_cast(entry.amount AS DECIMAL(18, 2)), 0) AS DECIMAL(28, 2)
          )
        )),
        part -> abs(
          try_divide(
            try_cast(line.quantity AS DECIMAL(18, 6)) * try_cast(line.unit_price AS DECIMAL(18, 6)),
            coalesce(try_cast(line.price_base_quantity AS DECIMAL(18, 4)), 1)
          ) + part - try_cast(line.line_net_amount AS DECIMAL(18, 2))
        ) <= 0.02
      ),
      true
    ) OR coalesce(line.price_base_unit <> line.unit_of_measure, false)), true) AS lines_are_priced
  FROM listed
),

summed AS (
  SELECT
    *,
    CASE WHEN size(lines) > 0 THEN
      try_cast(
        aggregate(lines, CAST(0 AS DECIMAL(28, 2)), (sum, line) -> CAST(sum + line.line_net_amount AS DECIMAL(28, 2)))
        AS DECIMAL(18, 2)
      )
    END AS lines_amount
  FROM typed
),

totalled AS (
  SELECT
    *,
    coalesce(
      printed_subtotal_amount,
      lines_amount,
      CAST(
        coalesce(printed_total_ex_tax_amount, total_amount - coalesce(printed_tax_amount, 0)) + discount_amount - charge_amount
        AS DECIMAL(18, 2)
      )
    ) AS subtotal_amount,
    coalesce(printed_tax_amount, 0.00) AS tax_amount,
    CAST(aggregate(taxes, CAST(0 AS DECIMAL(28, 2)), (sum, tax) -> CAST(sum + tax.tax_amount AS DECIMAL(28, 2))) AS DECIMAL(28, 2))
      AS taxes_amount,
    -- An identifier is one within its scheme.
    sha2(
      if(seller_id IS NULL, upper(regexp_replace(seller_name, ' +', ' ')), concat_ws('||', seller_id_scheme, seller_id)),
      256
    ) AS seller_sk
  FROM summed
)

SELECT
  * EXCEPT (
    printed_subtotal_amount, printed_tax_amount, rounded_line_count, taxes_amount, seller_id_scheme, amounts_are_money, numbers_are_decimals
  ),
  sha2(concat_ws('||', seller_sk, invoice_number), 256) AS invoice_sk
FROM totalled
-- As the one element of an array, because a filter on a plain column would have Spark evaluate all of it twice.
LATERAL VIEW explode(array(array_compact(array(
  if(seller_name IS NOT NULL, NULL, 'seller_name_is_given'),
  if(invoice_number IS NOT NULL, NULL, 'invoice_number_is_given'),
  if(coalesce(invoice_date BETWEEN DATE'1900-01-01' AND DATE'2199-12-31', false), NULL, 'invoice_date_is_a_date'),
  if(coalesce(currency_code RLIKE '^[A-Z]{3}$', false), NULL, 'currency_code_is_iso_4217'),
  if(coalesce(size(lines) > 0, false) OR is_without_lines, NULL, 'lines_are_given'),
  if(total_amount IS NOT NULL, NULL, 'total_amount_is_given'),
  if(amounts_are_money, NULL, 'amounts_have_two_decimals'),
  if(numbers_are_decimals, NULL, 'numbers_are_decimals'),
  if(NOT coalesce(size(lines) > 0, false) OR NOT amounts_are_money OR lines_amount IS NOT NULL, NULL, 'line_amounts_are_given'),
  -- Of the standards in use only Peppol BIS Billing has this rule; what follows another one is counted by an expectation.
  if(lines_are_priced OR NOT coalesce(specification_id ILIKE '%peppol%billing%', true), NULL, 'line_is_quantity_times_price'),
  if(coalesce(abs(printed_subtotal_amount - lines_amount) <= 0.02 + 0.005 * rounded_line_count, true), NULL, 'subtotal_is_sum_of_lines'),
  if(
    forall(taxes, tax -> coalesce(abs(tax.tax_amount - tax.tax_rate / 100 * tax.taxable_amount) <= 1, true)),
    NULL, 'tax_is_rate_of_its_base'
  ),
  -- Whether charges are taxed is not known without the groups of the tax, so both bases count.
  if(
    size(taxes) > 0
    OR coalesce(
      least(
        abs(printed_tax_amount - tax_rate / 100 * (subtotal_amount - discount_amount)),
        abs(printed_tax_amount - tax_rate / 100 * (subtotal_amount - discount_amount + charge_amount))
      ) <= 1 OR exists(lines, line -> coalesce(line.tax_rate <> tax_rate, false)),
      true
    ),
    NULL, 'tax_is_rate_of_its_base'
  ),
  if(size(taxes) = 0 OR coalesce(abs(printed_tax_amount - taxes_amount) <= 0.02, true), NULL, 'tax_is_sum_of_its_groups'),
  -- UBL outside EN 16931 writes a total that its rounding is part of.
  if(
    coalesce(
      least(
        abs(subtotal_amount - discount_amount + charge_amount + tax_amount - total_amount),
        abs(subtotal_amount - discount_amount + charge_amount + tax_amount + coalesce(rounding_amount, 0) - total_amount)
      ) <= 0.02,
      true
    ),
    NULL, 'total_is_sum_of_its_parts'
  ),
  -- A profile without lines may not know what was paid, some write 0 where the seller owes, and some withheld tax is only told.
  if(
    coalesce(
      exists(
        array(
          0.00,
          coalesce(rounding_amount, 0.00),
          -coalesce(withheld_tax_amount, 0.00),
          coalesce(rounding_amount, 0.00) - coalesce(withheld_tax_amount, 0.00)
        ),
        part -> abs(
          total_amount - coalesce(amount_paid, 0) + coalesce(third_party_amount, 0) + part - balance_due_amount
        ) <= if(rounding_amount IS NULL, 1, 0.02)
      ),
      true
    )
    OR (is_without_lines AND amount_paid IS NULL)
    OR (total_amount < 0 AND balance_due_amount = 0),
    NULL, 'balance_is_total_less_paid'
  )
)))) checked AS failed_rules;
