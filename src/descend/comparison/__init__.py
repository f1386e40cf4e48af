"""Evidence: candidates on the same seeds and pictures, and what can be said of their difference.

candidate   what is compared, from the words that name it
runs        the runs, each in a folder named by its settings, so that none is made twice
loop        seed after seed, until the seeds, the budget or the doubt are used up
result      differences with intervals and verdicts, as lines, JSON and a frame
paired      the same for any function of a seed
ablation    every technique of a recipe left out, and added to none (recipe_parts, ladder)
sensitivity accuracy against learning rate, rule by rule (width, rate_curves)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
