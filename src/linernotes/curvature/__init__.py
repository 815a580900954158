"""Curvature of the training loss: what turns a gradient into a step, and a step into an influence."""
