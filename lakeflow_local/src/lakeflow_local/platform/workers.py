"""Spark's daemon of Python workers, with PySpark as it is installed.

Spark puts its own zip of PySpark first on their path. That has no compiled code, so that the daemon and each worker
would compile it anew, which is most of what their start costs.
"""

import sys

sys.path[:] = [entry for entry in sys.path if not entry.endswith(("/pyspark.zip", "-src.zip"))]

from pyspark.daemon import manager  # noqa: E402

if __name__ == "__main__":
    manager()
