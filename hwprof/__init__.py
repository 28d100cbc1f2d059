"""hwprof: what holds a Transformer training step back, and what should change?"""

__version__ = "0.1.0"

__all__ = ["__version__"]
