"""`python examples/benchmarks/suite`, or `python -m jaxopt_ko bench`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[3]))  # the package beside the examples, where none is installed

from suite.command import main

if __name__ == "__main__":
    sys.exit(main())
