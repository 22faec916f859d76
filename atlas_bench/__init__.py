"""atlas-bench: how far does a sequence model really remember?"""

__version__ = "0.1.0"
