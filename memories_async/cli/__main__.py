"""The command line as a module: ``python -m memories_async.cli``."""

import sys

from memories_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
