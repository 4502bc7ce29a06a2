"""Histories of operations, and whether a strongly consistent store could have given them."""
