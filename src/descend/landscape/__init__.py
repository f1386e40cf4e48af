"""Test surfaces, and what optimizers do on them: every rule walks on floats through the ``direction`` that trains networks.

A ``Course`` fixes what every rule meets alike (surface, start, noise, number of steps); ``race`` tunes and walks several rules on
it and returns counts, never verdicts; ``draw_race`` and ``save`` make the picture. ``slice_loss`` looks at the loss of a real
network the same way. Nothing here trains.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
