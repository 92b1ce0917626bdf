"""Metrics of images in blocks: of scenes larger than memory, and of lazy arrays."""
