"""The model contract and its adapters; the built-in model and its training."""
