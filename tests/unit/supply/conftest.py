import sys
from pathlib import Path

# A command's code, not one of the installed packages.
sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))
