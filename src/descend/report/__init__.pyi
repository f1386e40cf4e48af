from .comparison import write_comparison as write_comparison
from .next_steps import advice as advice
from .next_steps import advice_line as advice_line
from .page import write as write
from .scan_page import write_scan as write_scan
