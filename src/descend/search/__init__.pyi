from .run import search as search
