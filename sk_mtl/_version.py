"""The version and the address of the documentation, each in one place."""

__version__ = "0.1.0"

SITE = "https://sk-mtl.readthedocs.io/en/stable"
