"""Pictures in: sources, decoding, splits, caches, batches.

``load`` looks at a folder, a table, a built-in set or arrays and returns a ``Dataset``; ``decoded`` turns it into pixels of one
size, cached on disk; ``Batches`` hands them out. The module ``decode`` is the one place that opens pictures, for training and
prediction alike (its function of that name is not exported here: module and function would overwrite each other). Nothing here
imports torch.

>>> from descend.data import load
>>> digits = load("digits")
>>> len(digits), len(digits.indices("train")), digits.classes[:3]
(1797, 1257, ('0', '1', '2'))
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
