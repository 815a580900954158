"""The benchmarks: small models and catalogues whose truth is known, each made by one command from the
built-in material.
"""
