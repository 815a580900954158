"""The Python API: every verb of the command line as one thin function over a workspace or an opened bank.

Which of these names ``import linernotes`` offers is listed once, in ``linernotes/__init__.pyi``.
"""
