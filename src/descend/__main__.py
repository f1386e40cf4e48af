"""``python -m descend`` is ``descend``."""

import sys

from descend.cli import main

sys.exit(main())
