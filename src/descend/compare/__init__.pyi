from .run import PairedRuns as PairedRuns
from .run import paired_seeds as paired_seeds
from .stats import Interval as Interval
from .stats import mean as mean
from .stats import paired as paired
from .stats import proportion as proportion
from .stats import runs_needed as runs_needed
from .stats import verdict as verdict
