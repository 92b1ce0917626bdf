"""Kernels of images with weights: those of masks know none, and cost nothing for them."""
