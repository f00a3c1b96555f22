#!/usr/bin/env python3
"""The app as a script: the same as the command ``bids-deepmrseg``."""

from bids_deepmrseg.cli.app import entry

if __name__ == "__main__":
    entry()
