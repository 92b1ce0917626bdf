"""Formulas that several metrics share, for all libraries of the array-API standard."""
