from .checks import CHECKS as CHECKS
from .checks import SCHEMA as SCHEMA
from .checks import Audit as Audit
from .checks import scan as scan
