"""Errors that the one on call reads: one line each, and the exit code that a script sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from databricks.sdk.errors import DatabricksError, NotFound, PermissionDenied, Unauthenticated

FAILED, REFUSED, UNREACHABLE, INTERRUPTED = 1, 3, 4, 130
_LOG_IN = "log in again (`databricks auth login`), or renew the token"


class OpsError(Exception):
    """One line for the user.

    Args:
        code: what the process exits with: 1 the work failed, 3 the workspace refused, 4 it cannot be reached.
    """

    def __init__(self, message: str, code: int = FAILED):
        super().__init__(" ".join(message.split()))
        self.code = code


@contextmanager
def readable() -> Iterator[None]:
    """Turns the errors of databricks-sdk into `OpsError`; its messages hold no secret, so they are told."""
    try:
        yield
    except Unauthenticated as error:
        raise OpsError(f"the workspace does not accept the login: {_message(error)}; {_LOG_IN}", REFUSED) from None
    except PermissionDenied as error:
        # What a workspace says of an expired or a revoked token, with the status of a missing permission.
        hint = _LOG_IN if "token" in _message(error).lower() else "ask for the permission, see docs/operations.md"
        raise OpsError(f"the workspace refuses: {_message(error)}; {hint}", REFUSED) from None
    except NotFound as error:
        raise OpsError(f"not found: {_message(error)}", REFUSED) from None
    except DatabricksError as error:
        raise OpsError(f"the workspace answered: {_message(error)}") from None
    except (TimeoutError, requests.RequestException) as error:
        reason = error.__cause__ or error
        raise OpsError(
            f"the workspace cannot be reached or stays busy: {reason}; try again later", UNREACHABLE
        ) from None


def _message(error: Exception) -> str:
    """What the workspace said, without the client's settings, which the SDK puts behind it."""
    return str(error).partition(". Config: ")[0]
