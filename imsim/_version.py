"""The home of the version; the build and the documents follow it."""

__version__ = "0.1.0"
