"""edgec: bring an image classifier to an edge device without losing its rare classes."""

__all__ = ["__version__"]

__version__ = "0.1.0"
