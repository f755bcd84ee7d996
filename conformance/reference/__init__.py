"""Every loss once more: plain float64 NumPy, loop-like, independent of the formulas."""
