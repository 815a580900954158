"""Runs many jobs behind one protocol: in this process, on threads, in processes, on a Ray cluster; knows
nothing of what they compute.
"""
