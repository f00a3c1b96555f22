"""``python -m bids_deepmrseg`` is ``bids-deepmrseg``."""

from bids_deepmrseg.cli.app import entry

if __name__ == "__main__":
    entry()
