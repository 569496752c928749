"""The version of this library, written into every artifact."""

__all__ = ["__version__"]

__version__ = "0.2.0"
