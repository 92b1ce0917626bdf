"""Parts of kernels that several metrics share."""
