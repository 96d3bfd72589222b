"""What a spreadsheet would run: a cell of CSV that begins as a formula does. One definition for all tables.

What a process or a host is called is up to whoever runs it, and an export is opened by somebody who may do
more (https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

from typing import Final

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula at the start of a cell."""
QUOTE: Final = "'"


def harmless(cell: str) -> str:
    """Put an apostrophe before a cell that a spreadsheet would run."""
    return f"{QUOTE}{cell}" if cell.startswith(FORMULA) else cell
