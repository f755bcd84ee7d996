"""One small adapter per framework."""
