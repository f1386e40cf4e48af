from . import augment as augment
from . import compare as compare
from . import data as data
from . import export as export
from . import landscape as landscape
from . import models as models
from . import optim as optim
from . import regularize as regularize
from . import report as report
from . import schedule as schedule
from . import search as search
from . import stats as stats
from . import train as train
from . import transfer as transfer
from .api import fit as fit
from .api import load as load
from .api import resume as resume
from .errors import DataError as DataError
from .errors import DescendError as DescendError
from .errors import KnobError as KnobError
from .errors import MissingExtra as MissingExtra
from .errors import ModelError as ModelError
from .errors import PictureError as PictureError
from .errors import RunError as RunError
from .errors import SpecError as SpecError
from .errors import TrainingError as TrainingError

__version__: str
