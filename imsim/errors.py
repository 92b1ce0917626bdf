"""Exceptions and warnings; each message says what was given, what was expected and what to do."""


class ImsimError(ValueError):
    """Base class of every error that imsim raises about its input."""


class ShapeError(ImsimError):
    """Shapes that do not fit together, or an image too small for the metric."""


class DataRangeError(ImsimError):
    """A data range that is missing where it matters, or not a positive finite number."""


class DTypeError(ImsimError, TypeError):
    """An input whose values are not real numbers (complex, object, string, masked array ...)."""


class MaskError(ImsimError):
    """A mask that does not fit the images."""


class MaskTypeError(MaskError, TypeError):
    """A mask that is neither boolean nor made of the integers 0 and 1."""


class OptionError(ImsimError):
    """An option value or a metric name that imsim does not know."""


class EmptyMaskWarning(UserWarning):
    """Nothing inside the mask could be scored; the score is NaN."""
