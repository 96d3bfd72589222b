import sys
from pathlib import Path

# What packages are made with is a command's code, not one of the installed packages.
sys.path.insert(0, str(Path(__file__).parents[3] / "scripts/packaging"))
