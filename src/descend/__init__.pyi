from .api import fit as fit
from .api import load as load
from .api import resume as resume

__version__: str
