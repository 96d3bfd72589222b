import sys
from pathlib import Path

# The fuzzer is a command's code, and its targets are files of their own: neither is an installed package.
for folder in (Path(__file__).parents[2] / "scripts", Path(__file__).parent):
    sys.path.insert(0, str(folder))
