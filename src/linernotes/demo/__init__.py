"""The built-in catalogue and model: real tunes, rendered from packages the user installs, and a small Stable
Audio pipeline.

``bundle/model`` is the trained pipeline, ``bundle/catalogue`` its training latents; sound is rendered when it
is asked for.
"""
