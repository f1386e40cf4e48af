from .answers import FeatureVectors as FeatureVectors
from .answers import Predictions as Predictions
from .recipe import Recipe as Recipe
from .record import RunRecord as RunRecord
from .run import Run as Run
from .tracking import Tracker as Tracker
