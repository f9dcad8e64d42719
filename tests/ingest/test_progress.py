from ingest.progress import line


def test_a_line_tells_rows_bytes_and_what_is_left():
    told = line(2_500_000, 10_000_000, 191, 30.0)
    assert told == (
        "2500000 of 10000000 rows (25 %), about 477500000 of 1910000000 bytes, 83333 rows/s, about 90 s left"
    )
    assert line(12, 10, 5, 1.0).endswith("12 rows/s, about 0 s left")  # the source grew meanwhile
