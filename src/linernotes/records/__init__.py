"""Records that people keep and pass on (attributions, calibrations, credits, statements): how they are read,
and how a change in them is found.
"""
