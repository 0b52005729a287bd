"""From scores to tables: layout, notes, intervals, tests and file formats.

Takes a suite's manifest and its stored scores, and returns a `Table`. `avloc.results` and the command line use it. It
does not import torch.
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
