"""Small vectors of all segments, from which a shortlist is taken that is then scored exactly."""
