"""Attribution methods, one file a family. Every score is oriented alike: higher = removing the item hurts the
query more.
"""
