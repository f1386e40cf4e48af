from .routes import application as application
from .workspace import Workspace as Workspace
