"""How fast imsim is, next to the libraries that compute the same or nearly the same."""
