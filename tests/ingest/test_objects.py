"""Objects that tasks write themselves, in both kinds of folder; the whole way is in test_job.py and test_faults.py."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from ingest import objects
from ingest.errors import IngestError, TransientError, explained
from lakeflow_local.platform.servers import S3_REGION
from tests.ingest.faults import FaultyS3

ROWS = pa.table(
    {
        "number": pa.array(range(10)),
        "cents": pa.array([Decimal("-1.50")] * 10, pa.decimal128(8, 2)),
        "at": pa.array([datetime(1500, 1, 1, tzinfo=UTC)] * 10, pa.timestamp("us", "UTC")),
        "local": pa.array([None] * 10, pa.timestamp("us")),
    }
)


@pytest.fixture
def s3(endpoints, worker_home):
    """A folder of the S3 server, through a proxy that can fail, and where its bucket is on the disk."""
    proxy = FaultyS3(endpoints.s3_endpoint)
    keys = (endpoints.s3_access_key, endpoints.s3_secret_key, None)
    prefix = f"objects/day={uuid.uuid4().hex}"
    yield objects.S3Folder("landing", prefix, proxy.endpoint, S3_REGION, True, keys), proxy
    proxy.close()


def written(folder: objects.Folder, rows: pa.Table = ROWS) -> list[str]:
    with objects.Writer(folder, "part-00000", 4, "4.2.0") as writer:
        for start in range(0, len(rows), 3):
            writer.write(rows.slice(start, 3))
        return writer.close()


def uploads(folder: objects.S3Folder) -> list[str]:
    found = folder.client().list_multipart_uploads(Bucket=folder.bucket).get("Uploads", [])
    return [upload["Key"] for upload in found if upload["Key"].startswith(folder.prefix)]


def test_tasks_write_on_a_disk_themselves(spark, tmp_path):
    # by what the session opens for a disk, which here is a kind of Hadoop's own
    assert isinstance(objects.folder(spark, f"file://{tmp_path}/day=1"), objects.DiskFolder)


def test_files_have_their_number_of_rows_and_types_and_appear_at_the_commit(tmp_path):
    folder = objects.DiskFolder(f"{tmp_path}/day=1")
    pending = written(folder)
    assert not list(Path(folder.path).glob("[!.]*"))
    folder.commit(pending)
    files = sorted(Path(folder.path).iterdir())
    assert [pq.ParquetFile(file).metadata.num_rows for file in files] == [4, 4, 2]
    assert pa.concat_tables(map(pq.read_table, map(str, files))).equals(ROWS)
    described = pq.ParquetFile(files[0])
    kinds = {column.name: (column.physical_type, str(column.logical_type)) for column in described.schema}
    assert kinds["cents"] == ("INT32", "Decimal(precision=8, scale=2)")
    assert "isAdjustedToUTC=true, timeUnit=microseconds" in kinds["at"][1]
    assert "isAdjustedToUTC=false, timeUnit=microseconds" in kinds["local"][1]
    column = described.metadata.row_group(0).column(0)
    assert (column.compression, column.statistics.min, column.statistics.max) == ("ZSTD", 0, 3)
    assert described.metadata.metadata == {b"org.apache.spark.version": b"4.2.0"}

    with pytest.raises(ZeroDivisionError), objects.Writer(folder, "part-00001", 4, "4.2.0") as writer:
        writer.write(ROWS)
        raise ZeroDivisionError
    folder.abort(written(folder))
    assert sorted(Path(folder.path).iterdir()) == files
    assert written(folder, ROWS.slice(0, 0)) == []
    written(folder)  # as by a task whose result nobody has
    folder.clear()
    assert sorted(Path(folder.path).iterdir()) == files


def test_an_object_of_s3_appears_at_its_commit_through_a_store_that_fails_now_and_then(s3, monkeypatch):
    folder, proxy = s3
    assert "secret" not in repr(folder) and folder.keys[1] not in repr(folder)
    monkeypatch.setattr(objects, "_PART", 1000)  # S3 itself has 5 MiB as the least
    proxy.inject(503, 2, "PUT", "POST")
    pending = written(folder)
    client = folder.client()
    listed = {"Bucket": folder.bucket, "Prefix": f"{folder.prefix}/"}
    assert client.list_objects_v2(**listed)["KeyCount"] == 0
    folder.commit(pending)
    names = [found["Key"] for found in client.list_objects_v2(**listed)["Contents"]]
    assert len(names) == 3 and len(set(names)) == 3
    bodies = [client.get_object(Bucket=folder.bucket, Key=name)["Body"].read() for name in names]
    assert pa.concat_tables(pq.read_table(pa.BufferReader(body)) for body in bodies).equals(ROWS)
    folder.abort(written(folder))
    assert client.list_objects_v2(**listed)["KeyCount"] == 3 and uploads(folder) == []

    proxy.inject(503, 3, "PUT")
    with pytest.raises(ClientError) as failed:
        written(folder)
    assert isinstance(explained(failed.value), TransientError) and uploads(folder) == []

    proxy.inject("altered", 1, "PUT")
    with pytest.raises(ClientError) as failed:
        written(folder)
    assert "altered" in str(explained(failed.value)) and uploads(folder) == []


def test_what_attempts_left_is_ended_and_nothing_of_another_folder(s3, caplog):
    folder, proxy = s3
    beside = replace(folder, prefix=f"{folder.prefix}-beside")
    for some in (folder, folder, beside):
        written(some)
    assert (len(uploads(folder)), len(uploads(beside))) == (9, 3)
    folder.clear()
    assert len(uploads(folder)) == len(uploads(beside)) == 3  # whose keys begin alike
    proxy.inject(503, 3, "GET")
    beside.clear()
    assert "left for the bucket's lifecycle rule: SlowDown" in caplog.text
    beside.clear()
    assert uploads(folder) == []


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("An error occurred (NoSuchBucket) when calling the CreateMultipartUpload …", IngestError, "does not exist"),
        ("An error occurred (AccessDenied) when calling the UploadPart operation", IngestError, "was refused"),
        ("An error occurred (ExpiredToken) when calling the UploadPart operation", TransientError, "has ended"),
        ("An error occurred (NoSuchUpload) when calling the CompleteMultipart…", TransientError, "answer properly"),
        ("An error occurred (500) when calling the UploadPart operation (reached …)", TransientError, "properly"),
        ('EndpointConnectionError: Could not connect to the endpoint URL: "http://x"', TransientError, "reached"),
        ('ReadTimeoutError: Read timeout on endpoint URL: "http://x"', TransientError, "cannot be reached"),
        ("Connection was closed before we received a valid response from endpoint URL", TransientError, "reached"),
    ],
)
def test_what_boto3_says_is_told_in_a_line(text, kind, told):
    found = explained(RuntimeError(text))
    assert type(found) is kind and told in str(found)
