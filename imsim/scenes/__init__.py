"""Images that are more than an array in memory: with named axes, lazy, or larger than memory."""
