"""Tracks, their segments and their rights: from a folder of recordings to an immutable, content-hashed
catalogue.
"""
