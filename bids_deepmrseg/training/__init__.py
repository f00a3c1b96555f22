"""Everything that makes weights: labelled scans, synthetic heads, augmentation, loss and loop."""
