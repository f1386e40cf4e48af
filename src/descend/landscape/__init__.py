"""Test surfaces, and what optimizers do on them: every rule walks on floats through the ``direction`` that trains networks.

A ``Course`` fixes what every rule meets alike (surface, start, noise, number of steps); ``race`` tunes and walks several rules on
it and returns counts, never verdicts; ``draw_race`` and ``save`` make the picture. ``slice_loss`` looks at the loss of a real
network the same way. Nothing here trains.

>>> from descend.landscape import Course, Ravine, race
>>> course = Course(surface=Ravine(), n_steps=100)
>>> [(outcome.label, outcome.steps) for outcome in race(course, ["sgd(lr=0.15)", "momentum"], n_seeds=1)]
[('sgd(lr=0.15)', (inf,)), ('momentum(lr=0.068)', (66.0,))]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
