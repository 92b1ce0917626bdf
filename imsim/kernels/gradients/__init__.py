"""Compiled gradients of the scores, for images in the memory of the host.

The record of a metric loads one of them: a function

    gradient(pair, upstream, wanted, **options) -> (gradient_x, gradient_y), or None

of a checked `Pair` of NumPy arrays, whose pixels are finite and 0 outside the mask, of a weight per
score, and of the options of the formula. It returns the gradient of the sum of weight times score
with respect to each image that is wanted, and None for one that is not. Gradients have the shape of
the broadcast images, (*batch, channels, height, width), and the dtype of the pixels; outside the
mask they are exactly 0. Where the score has a corner, such as a distance of 0, they are that of the
flat side, 0. None in place of both leaves the input to the formula.
"""
