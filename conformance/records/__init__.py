"""Record a loss in one environment, replay it in another, compare anywhere."""
