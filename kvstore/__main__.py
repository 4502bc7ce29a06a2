"""The command kvstore, for `python -m kvstore`."""

import sys

from kvstore.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
