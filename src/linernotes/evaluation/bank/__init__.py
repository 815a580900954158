"""Retrain banks: models trained again on known tracks, what was measured of them, and methods' scores of
their clips.
"""
