"""Record a loss in one environment, replay it in another, compare anywhere.

Only what `runners` does imports a framework (in `identity`), and only the one that the loss is written in; to read, compare
and explain needs neither.
"""
