"""Learning-rate decay: pure functions from progress in [0, 1] to a factor on the learning rate.

>>> from descend.schedule import Cosine, Schedule, Then, Warmup
>>> from descend.technique import build
>>> schedule = build("then(warmup(fraction=0.1), cosine())", Schedule)
>>> schedule == Then(parts=(Warmup(fraction=0.1), Cosine()))
True
>>> [round(schedule.factor(progress), 3) for progress in (0.0, 0.1, 0.55, 1.0)]
[0.01, 1.0, 0.5, 0.0]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
