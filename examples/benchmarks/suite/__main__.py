"""`python examples/benchmarks/suite`, or `python -m jaxopt_ko bench`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from suite.command import main

if __name__ == "__main__":
    sys.exit(main())
