"""Mathematics that several metrics share, written once against the array-API standard."""
