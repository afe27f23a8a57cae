"""`python -m fastrdm`."""

import sys

from fastrdm.cli import main

sys.exit(main())
