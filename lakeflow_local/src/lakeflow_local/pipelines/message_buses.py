"""Message buses (Kafka, Kinesis, Event Hubs, Pub/Sub, Pulsar) whose messages are read from files in their place.

`lakeflow_local.kafka.orders = /some/folder` in a pipeline's configuration stands for the topic `orders`: each line of
the folder's JSON files is a message, its fields the columns that the bus has. A value may be a string or any JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, StringType, StructField, StructType

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.auto_loader.schema import struct

# folders, options of Auto Loader, schema -> rows
Load = Callable[[Sequence[str], Mapping[str, str], StructType], DataFrame]


@dataclass(frozen=True)
class _Bus:
    """What a bus' source looks like on Databricks.

    Attributes:
        topics: options that name what is read, in lower case; several topics are separated by commas.
        columns: DDL text.
        topic: the column that holds the topic's name, where there is one.
        time: the column that holds the time of a message; the file's own time stands for it.
        optional: columns that only an option brings.
    """

    topics: tuple[str, ...]
    columns: str
    topic: str | None = None
    time: str | None = None
    optional: tuple[tuple[str, str], ...] = ()


_BUSES = {
    "kafka": _Bus(
        ("subscribe", "subscribepattern", "assign"),
        "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, timestampType INT, "
        "headers ARRAY<STRUCT<key: STRING, value: BINARY>>",
        topic="topic",
        time="timestamp",
        optional=(("headers", "includeheaders"),),
    ),
    "kinesis": _Bus(
        ("streamname", "streamarn"),
        "partitionKey STRING, data BINARY, stream STRING, shardId STRING, sequenceNumber STRING, "
        "approximateArrivalTimestamp TIMESTAMP",
        topic="stream",
        time="approximateArrivalTimestamp",
    ),
    "eventhubs": _Bus(
        ("eventhubs.name", "eventhubs.eventhubname", "eventhubname", "eventhubs.connectionstring"),
        "body BINARY, partition STRING, offset STRING, sequenceNumber BIGINT, enqueuedTime TIMESTAMP, "
        "publisher STRING, partitionKey STRING, properties MAP<STRING, STRING>, systemProperties MAP<STRING, STRING>",
        time="enqueuedTime",
    ),
    "pubsub": _Bus(
        ("topicid", "subscriptionid"),
        "messageId STRING, payload BINARY, attributes STRING, publishTimestampInMillis BIGINT, sequenceNumber BIGINT",
    ),
    "pulsar": _Bus(
        ("topic", "topics", "topicspattern"),
        "__key BINARY, value BINARY, __topic STRING, __messageId BINARY, __publishTime TIMESTAMP, "
        "__eventTime TIMESTAMP, __messageProperties MAP<STRING, STRING>",
        topic="__topic",
        time="__publishTime",
    ),
}
BUSES = frozenset(_BUSES)
TABLE_FUNCTIONS = {f"read_{name}": name for name in ("kafka", "kinesis", "pubsub", "pulsar")}


def read(bus: str, options: Mapping[str, Any], configuration: Mapping[str, str], load: Load) -> DataFrame:
    """The messages of the topics that `options` name, from the files that `configuration` gives for them.

    Raises:
        LakeflowError: no topic is named, or no setting stands for it.
    """
    of = _BUSES[bus]
    given = {name.lower(): str(value) for name, value in options.items()}
    folders = {topic: _folder(bus, topic, configuration) for topic in _topics(bus, of, given, configuration)}
    left_out = {column for column, option in of.optional if given.get(option, "").lower() != "true"}
    columns = [f for f in struct(of.columns).fields if f.name not in left_out]
    as_text = StructType([StructField(f.name, _text(f.dataType)) for f in columns])
    frame = load(list(folders.values()), {"cloudFiles.format": "json"}, as_text)
    values = [_value(f, of, folders).alias(f.name) for f in columns]
    return frame.select(*values)


def _topics(bus: str, of: _Bus, given: Mapping[str, str], configuration: Mapping[str, str]) -> list[str]:
    known = [k.removeprefix(_setting(bus, "")) for k in configuration if k.startswith(_setting(bus, ""))]
    for option in of.topics:
        value = given.get(option)
        if value is None:
            continue
        if option.endswith("pattern"):
            found = [topic for topic in known if re.fullmatch(value, topic)]
            if not found:
                raise LakeflowError(f"no {_setting(bus, 'TOPIC')} matches {value}; set one for each topic to be read")
            return found
        if option == "assign":
            return list(json.loads(value))
        if option.endswith("connectionstring"):
            path = re.search(r"EntityPath=([^;]+)", value)
            return [path.group(1)] if path else known[:1] or [""]
        names = [name.strip().rsplit("/", 1)[-1] for name in value.split(",") if name.strip()]
        if names:
            return names
    raise LakeflowError(f"{bus} needs the option {of.topics[0]}, which says what to read")


def _folder(bus: str, topic: str, configuration: Mapping[str, str]) -> str:
    setting = _setting(bus, topic)
    if setting not in configuration:
        columns = ", ".join(struct(_BUSES[bus].columns).names)
        raise LakeflowError(
            f"{bus} is not read here; set {setting} = FOLDER in the pipeline's configuration, "
            f"a folder of JSON lines with {columns}"
        )
    return configuration[setting]


def _setting(bus: str, topic: str) -> str:
    return f"lakeflow_local.{bus}.{topic}"


def _text(kind: Any) -> Any:
    """The type as JSON can say it."""
    if isinstance(kind, BinaryType):
        return StringType()
    return struct(f"c {kind.simpleString().replace('binary', 'string')}")["c"].dataType


def _value(part: StructField, of: _Bus, folders: Mapping[str, str]) -> Column:
    column = F.col(f"`{part.name}`")
    if part.name == of.topic:
        file = F.col("_metadata.file_path")
        names = [F.when(file.contains(folder.split(":", 1)[-1].rstrip("/")), F.lit(t)) for t, folder in folders.items()]
        return F.coalesce(column, *names)
    if part.name == of.time:
        return F.coalesce(column, F.col("_metadata.file_modification_time"))
    if part.name == "timestampType":
        return F.coalesce(column, F.lit(0))
    return column.cast(part.dataType)
