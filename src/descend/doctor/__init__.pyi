from .examination import CHECKS as CHECKS
from .examination import Diagnosis as Diagnosis
from .examination import diagnose as diagnose
from .examination import examine as examine
from .subject import Subject as Subject
from .subject import prepare_subject as prepare_subject
