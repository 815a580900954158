"""What attribution costs: said beforehand, and measured."""
