"""The installed version of linernotes, and the version of the files it writes; every artefact carries
both.
"""

from importlib.metadata import PackageNotFoundError, version

SCHEMA_VERSION = 1
RECORD_VERSION = 3  # of attribution.json

try:
    __version__ = version("linernotes")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"
