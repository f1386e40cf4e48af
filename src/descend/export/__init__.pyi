from .agreement import AgreementReport as AgreementReport
from .exported import SUFFIXES as SUFFIXES
from .exported import Format as Format
from .exported import export_file as export_file
from .quantized import MAX_LOSS as MAX_LOSS
from .quantized import N_CALIBRATION as N_CALIBRATION
from .quantized import QuantizedReport as QuantizedReport
from .quantized import export_int8 as export_int8
