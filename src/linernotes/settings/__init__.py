"""All settings, typed, in one place: they feed the flags, a settings file, and
the saved record that can be replayed.
"""
