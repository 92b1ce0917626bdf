"""`imsim anomaly`: simulate, train, score and report, on folders of images and on stacks."""
