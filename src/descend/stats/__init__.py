"""The statistics of every comparison, in one place, on SciPy: intervals first, verdicts second.

Two techniques are compared on the *same* seeds, so the difference within a seed is the observation: the spread that the
seeds share cancels. A lone best run says nothing; an interval that holds zero says "not distinguishable", and
``plan_runs`` says how many more seeds would settle it.

Where all runs judge the same pictures (a split that was given), seeds are half of the chance only: further pictures would have
been answered otherwise too. ``paired_runs_and_items`` covers both, and ``mcnemar`` is for one run each. ``difference`` chooses by
the shape of the scores; ``differences`` compares several candidates at once. How often each of them calls two equal settings
different is measured in ``docs/comparison``.

>>> from descend.stats import paired
>>> print(paired([0.93, 0.95, 0.94], [0.90, 0.91, 0.91]))
+0.03333 [+0.01899, +0.04768] (n=3)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
