"""The command line as ``python -m memories_async``."""

import sys

from memories_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
