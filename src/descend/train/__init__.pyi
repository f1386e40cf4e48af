from .recipe import Recipe as Recipe
from .record import RunRecord as RunRecord
from .run import Predictions as Predictions
from .run import Run as Run
