from .comparison import write_comparison as write_comparison
from .page import write as write
from .scan_page import write_scan as write_scan
