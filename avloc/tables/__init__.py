"""From scores to tables: layout, notes, intervals and tests, and the formats they are written in.

In comes a suite's manifest with its score files, out comes a table. The command line calls it. Needs no torch.
"""

from avloc.tables.layout import Wishes, build_table, load
from avloc.tables.published import Printed, printed_tables
from avloc.tables.statistics import holm, mean_and_deviation, percentile_interval, replicate, replicate_means, sign_flip
from avloc.tables.table import DASH, Cell, Group, Row, Table, column_names, select, transposed

__all__ = [
    "DASH",
    "Cell",
    "Group",
    "Printed",
    "Row",
    "Table",
    "Wishes",
    "build_table",
    "column_names",
    "holm",
    "load",
    "mean_and_deviation",
    "percentile_interval",
    "printed_tables",
    "replicate",
    "replicate_means",
    "select",
    "sign_flip",
    "transposed",
]
