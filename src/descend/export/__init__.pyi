from .agreement import AgreementReport as AgreementReport
from .onnx_file import export_onnx as export_onnx
