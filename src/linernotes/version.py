"""The installed version of linernotes; every artefact carries it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("linernotes")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"
