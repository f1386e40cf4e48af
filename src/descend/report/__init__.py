"""One self-contained HTML page per run: what it reached, what was decided and why, where it errs, how to repeat it.

The package reads what a run left behind; it cannot train. ``write(run)`` and ``write_comparison(found)`` are all of it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
