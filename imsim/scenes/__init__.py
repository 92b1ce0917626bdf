"""Images that are more than an array in memory: with named axes, lazy, or larger than memory.

From a call to its score::

    names       labelled arrays become bare ones, and results get names
    dispatch    Given: what a user passed       Scene: its sources, to be read in parts
    scoring     Job: a metric that is checked   its pieces know the options; no pixel is read yet
                which blocks, of what size      for what is stored
    pieces      Block -> Part -> Part -> Scores by metric, in moments and local
    lazy        which tasks, of which chunks    for arrays of Dask
    maps        the same for maps, block by block
"""
