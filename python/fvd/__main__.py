"""`python -m fvd`: the same as the `fvd` command."""

import sys

from fvd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
