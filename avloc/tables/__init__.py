"""From scores to tables: layout, notes, intervals and tests, and the formats tables are written in.

In comes a suite's manifest with its scores, out comes a `Table`. `avloc.results` and the command line call it. Needs no
torch.
"""

from avloc.tables.layout import build_table
from avloc.tables.published import Printed, printed_tables
from avloc.tables.scores import load_scores, read_rows
from avloc.tables.table import DASH, Cell, Group, Row, Table, column_names, select, transposed

__all__ = [
    "DASH",
    "Cell",
    "Group",
    "Printed",
    "Row",
    "Table",
    "build_table",
    "column_names",
    "load_scores",
    "printed_tables",
    "read_rows",
    "select",
    "transposed",
]
