"""Times image-similarity-measures, which needs NumPy 1, in an environment of its own.

It reads requests as lines of JSON and answers each with one line: the value and the seconds
per call. The images are files, which it keeps once loaded.
"""

from __future__ import annotations

import functools
import json
import sys
import time
import warnings


def main() -> None:
    warnings.simplefilter("ignore")
    import numpy as np
    from image_similarity_measures import quality_metrics

    load = functools.lru_cache(maxsize=2)(np.load)
    for line in sys.stdin:
        request = json.loads(line)
        x, y = load(request["x"]), load(request["y"])
        function = getattr(quality_metrics, request["metric"])
        start = time.perf_counter()
        for _ in range(request["repeats"]):
            value = function(x, y, **request["options"])
        seconds = (time.perf_counter() - start) / request["repeats"]
        print(json.dumps({"value": float(value), "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
