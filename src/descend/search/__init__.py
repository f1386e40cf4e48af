"""The search behind ``--transfer auto``: the best answer that a budget of time allows, replaced only by a better one.

clock     the budget, and who notices that it is spent
steps     what a search can do, as text: replayed from a recipe, the steps give the same bytes
begin     how fast this machine is, and how many pictures the time allows
study     the data, the network and the engine that all steps share
features  the step that fits a head to features of a size and its views
finetune  the step that trains late stages, from a head that was fitted
rungs     which step is worth its seconds next
mixture   how the answers of several steps are weighed
findings  what was found so far
limits    what may be shipped
label_preservation: which transforms keep the labels of these pictures
run       the loop over these; conclude: what is left when it ends
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
