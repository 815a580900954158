"""The run itself: prepare a model and a catalogue once, score queries, and turn scores into an
attribution.
"""
