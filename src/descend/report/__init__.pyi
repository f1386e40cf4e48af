from .page import write as write
from .scan_page import write_scan as write_scan
