"""Proves that every loss gives the same values and gradients everywhere."""
