"""Pages from an attribution. Nothing is computed here but pictures."""
