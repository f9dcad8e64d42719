-- Every rule of both pipelines. Severity follows from what an update does with a row that breaks it: critical fails the
-- update, error keeps the row out, warning lets it pass. Owner is who can mend the data. A test compares it with the sources.
SELECT *
FROM VALUES
  ('member_id_is_uuid', 'error', 'validity', 'member system'),
  ('changed_at_present', 'error', 'completeness', 'member system'),
  ('first_name_present', 'error', 'completeness', 'member system'),
  ('last_name_present', 'error', 'completeness', 'member system'),
  ('email_valid', 'error', 'validity', 'member system'),
  ('phone_number_valid', 'error', 'validity', 'member system'),
  ('address_present', 'error', 'completeness', 'member system'),
  ('address_one_line', 'error', 'validity', 'member system'),
  ('city_present', 'error', 'completeness', 'member system'),
  ('country_known', 'error', 'validity', 'member system'),
  ('registration_date_plausible', 'error', 'timeliness', 'member system'),
  ('members_positive', 'critical', 'consistency', 'data platform'),
  ('nothing_rescued', 'warning', 'validity', 'data platform'),
  ('due_date_is_a_date', 'warning', 'validity', 'invoice issuer'),
  ('both_ids_are_given', 'warning', 'completeness', 'member system'),
  ('rate_is_positive', 'warning', 'validity', 'finance'),
  ('rate_date_is_a_date', 'warning', 'validity', 'finance'),
  ('exchange_rate_is_known', 'warning', 'completeness', 'finance'),
  ('customer_is_known', 'warning', 'completeness', 'invoice issuer'),
  ('document_type_is_known', 'warning', 'validity', 'invoice issuer'),
  ('status_is_known', 'warning', 'validity', 'invoice issuer'),
  ('quantities_are_positive', 'warning', 'validity', 'invoice issuer'),
  ('prices_are_positive', 'warning', 'validity', 'invoice issuer'),
  ('total_ex_tax_is_as_printed', 'warning', 'accuracy', 'invoice issuer'),
  ('items_are_named', 'warning', 'completeness', 'invoice issuer'),
  ('lines_add_up_to_total', 'critical', 'consistency', 'data platform'),
  ('both_sides_agree', 'critical', 'consistency', 'data platform')
AS catalogue (rule, severity, dimension, owner)
