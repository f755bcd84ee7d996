"""Record a loss in one environment, replay it in another, compare anywhere.

Only `runners` imports a framework, and only the one that the loss is written in; reading, comparing and explaining need
neither.
"""
