"""Auto Loader on Spark's file stream: each file once, a schema that is kept and grows, misfitting values rescued.

`loader` finds the files that no batch has read, looks at them, and hands Spark a stream of exactly those: `options`
says what was asked for, `files` lists and records, `schema` grows the columns, `columns` reads and rescues.
"""

from lakeflow_local.pipelines.auto_loader.loader import AutoLoader
from lakeflow_local.pipelines.auto_loader.options import RESCUED

__all__ = ["RESCUED", "AutoLoader"]
