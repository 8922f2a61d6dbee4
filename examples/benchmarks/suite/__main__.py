"""`python examples/benchmarks/suite`, or `python -m jaxopt_ko bench`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.append(str(HERE.parents[2]))  # the package beside the examples, where none is installed

from suite.command import main

if __name__ == "__main__":
    sys.exit(main())
