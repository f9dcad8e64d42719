"""Errors that a person reads, and what may be tried again."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TypeVar

from pyspark.errors import AnalysisException, PySparkException

T = TypeVar("T")
log = logging.getLogger("ingest")


class IngestError(Exception):
    """A fault told in one line: what is wrong, then what to do. Holds no secret and no row of data."""

    exit_code = 1
    """Of a command that ends with it."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class TransientError(IngestError):
    """A fault that may be gone a moment later: a connection cut or refused, a deadlock, a server that is busy."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class BusyError(IngestError):
    """Another run holds what this one needs. It may take hours, so that nothing waits for it."""

    exit_code = 75


def retry(action: Callable[[], T], *, attempts: int = 4, first_wait: float = 0.5) -> T:
    """The result of `action`, tried again after each `TransientError` with twice the wait.

    Args:
        action: must be safe to repeat.
        attempts: how often it is tried in all.
        first_wait: seconds before the second attempt.
    """
    for attempt in range(1, attempts):
        try:
            return action()
        except TransientError as error:
            wait = first_wait * 2 ** (attempt - 1)
            log.warning("attempt %d of %d failed, next in %.1f s: %s", attempt, attempts, wait, error)
            time.sleep(wait)
    return action()


_CAUSE = re.compile(r"^(?:Caused by: )?([\w.$]+(?:Exception|Error|Failure)): (.*)$", re.MULTILINE)

# What S3A, boto3, Connector/J and Spark say, and what that means to the person who started the run.
_EXPLANATIONS: tuple[tuple[str, type[IngestError], str], ...] = (
    (
        r"No space left on device",
        IngestError,
        "the disk is full; make room and start the same command again",
    ),
    (
        r"UnknownStoreException|NoSuchBucket|bucket does not exist|Bucket \S+ does not exist",
        IngestError,
        "the bucket of {landing} does not exist; create it or correct --landing-url",
    ),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDeniedException|NoAuthWithAWSException|Status Code: 403"
        r"|An error occurred \((?:AccessDenied|403)\)",
        IngestError,
        "access to {landing} was refused; check the access key, the secret key and their rights to write there",
    ),
    (
        r"No FileSystem for scheme|UnsupportedFileSystemException",
        IngestError,
        "this Spark session cannot write to {landing}; use a URL that it knows, such as s3://bucket/prefix",
    ),
    (
        r"ExpiredToken",
        TransientError,
        "the session's access to {landing} has ended; start the same command again",
    ),
    (
        r"SlowDown|Status Code: 50[03]|AWSServiceIOException|AWSBadRequestException.*RequestTimeout"
        r"|An error occurred \((?:5\d\d|InternalError|ServiceUnavailable|RequestTimeout|NoSuchUpload)\)",
        TransientError,
        "the object store of {landing} did not answer properly; try again later",
    ),
    (
        r"An error occurred \(BadDigest\)",
        TransientError,
        "what was sent to {landing} arrived altered and was refused; start the same command again",
    ),
    (
        r"SdkClientException|UnknownHostException.*(?:s3|landing)|ConnectTimeoutException|endpoint URL",
        TransientError,
        "the object store of {landing} cannot be reached; check the endpoint and the network",
    ),
    (
        r"CommunicationsException|Communications link failure|Lost connection to MySQL|CJCommunicationsException"
        r"|FAILED_JDBC\.CONNECTION|Can not read response from server|java\.sql\.SQLException: Error retrieving record",
        TransientError,
        "the connection to {source} was cut; check that the server runs",
    ),
    (
        r"ClassNotFoundException: com\.mysql\.cj\.jdbc\.Driver|No suitable driver",
        IngestError,
        "MySQL Connector/J is not on Spark's class path; add com.mysql:mysql-connector-j to the session or the cluster",
    ),
    (
        r"Permission denied|Mkdirs failed|ParentNotDirectoryException|Read-only file system",
        IngestError,
        "{landing} cannot be written; check that it is a folder and that you may write there",
    ),
)


def explained(error: Exception, *, source: object = "the source", landing: str = "the landing zone") -> IngestError:
    """The one-line form of what Spark, S3A or Connector/J raised; `error` itself if it is one already."""
    if isinstance(error, IngestError):
        return error
    text = str(error)
    own = re.search(r"ingest\.errors\.(IngestError|TransientError): (.*)", text)
    if own:
        return (TransientError if own[1] == "TransientError" else IngestError)(own[2])
    for pattern, kind, message in _EXPLANATIONS:
        if re.search(pattern, text):
            return kind(message.format(source=source, landing=landing))
    if isinstance(error, AnalysisException) and error.getCondition():
        return IngestError(f"Spark refused: {text.splitlines()[0]}")
    # Messages of what fails at run time may quote a value, so that only the class of the cause is told.
    if isinstance(error, PySparkException) and error.getCondition():
        return IngestError(f"Spark failed with {error.getCondition()}; run again with --traceback to see where")
    causes = _CAUSE.findall(text)
    cause = causes[-1][0] if causes else f"{type(error).__module__}.{type(error).__qualname__}"
    return IngestError(f"unexpected {cause}; run again with --traceback to see where it comes from")
