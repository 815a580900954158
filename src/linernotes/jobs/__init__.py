"""Runs many jobs: in order, resumable, on threads or processes; knows nothing of what they compute."""
