from ingest.members import generator
from ingest.members.defects import DEFECTS
from ingest.members.load import load
from tests.ingest.conftest import AS_OF

COLUMNS = "member_id, first_name, last_name, email, phone_number, address, city, country, registration_date"


def test_a_repeat_changes_nothing_and_leaves_no_staging_table(lake):
    first = lake.load(100)
    rows = lake.sql("SELECT * FROM members ORDER BY member_id")
    second = lake.load(100)
    assert (first.inserted, first.updated, first.total) == (100, 0, 100)
    assert (second.inserted, second.updated, second.total) == (0, 0, 100)
    assert lake.sql("SELECT * FROM members ORDER BY member_id") == rows
    assert lake.sql("SHOW TABLES") == [("members",)]


def test_rows_that_a_retried_task_wrote_twice_arrive_once(lake):
    frame = generator.members(lake.spark, 50, seed=1, as_of=AS_OF)
    assert load(frame.union(frame), lake.source).total == 50


def test_the_second_round_changes_adds_and_deletes_what_was_asked(lake):
    lake.load(200)
    (before,) = lake.sql("SELECT MAX(updated_at) FROM members")[0]
    changed = lake.change(200, changed=40, added=20, deleted=10)
    assert (changed.inserted, changed.updated, changed.deleted, changed.total) == (57, 40, 10, 247)
    assert lake.sql(f"SELECT COUNT(*) FROM members WHERE updated_at > '{before}'") == [(97,)]
    again = lake.change(200, changed=40, added=20, deleted=10)
    assert (again.inserted, again.updated, again.deleted) == (0, 0, 0)


def test_every_defect_stands_in_the_table_as_it_was_made(lake):
    lake.load(1)
    lake.change(1, changed=0, added=0, deleted=0)
    expected = {
        tuple(row[:9])
        for row in generator.changes(lake.spark, 1, seed=1, as_of=AS_OF, changed=0, added=0, deleted=0).collect()
    }
    keys = ", ".join(f"'{row[0]}'" for row in expected)
    stored = set(lake.sql(f"SELECT {COLUMNS} FROM members WHERE member_id IN ({keys})"))
    assert stored == expected and len(stored) == len(DEFECTS)
