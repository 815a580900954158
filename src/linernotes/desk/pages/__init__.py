"""The desk's pages, one module for each entry of its menu."""
