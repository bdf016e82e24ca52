"""Stands before the real one when this directory is on the path of Python: uvloop is not installed (see Makefile)."""

raise ModuleNotFoundError("No module named 'uvloop': tests/no_uvloop hides it", name="uvloop")
