"""Whose a clip is: from an attribution's tracks to recordings and works, parties and shares, statements and
signatures. Knows nothing of models.
"""
