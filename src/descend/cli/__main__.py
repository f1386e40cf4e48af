"""``python -m descend.cli`` is ``descend``."""

import sys

from descend.cli import main

sys.exit(main())
