"""What the kernels of several metrics share."""
