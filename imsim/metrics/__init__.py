"""One file per metric; file name = function name = registry key."""
