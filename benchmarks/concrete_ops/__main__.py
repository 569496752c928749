"""`python -m benchmarks.concrete_ops docs/concrete-ops.md` asks Concrete ML again and writes the table anew."""

import sys
from pathlib import Path

from benchmarks.concrete_ops.table import render, table

Path(sys.argv[1]).write_text(render(table()))
