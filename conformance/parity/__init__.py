"""The same training in each framework, side by side."""
