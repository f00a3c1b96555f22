"""How good a segmentation is: metrics against manual labels, per-case results, tables."""
