from .run import PairedRuns as PairedRuns
from .run import paired_seeds as paired_seeds
