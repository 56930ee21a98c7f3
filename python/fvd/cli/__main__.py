"""`python -m fvd.cli`."""

import sys

from fvd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
