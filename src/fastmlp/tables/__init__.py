"""Tables as they are: CSV, Parquet and NumPy files, columns that become inputs."""

from .reading import read_table
from .table import TableError

__all__ = ["TableError", "read_table"]
