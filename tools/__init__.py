"""What developers run: benchmarks and the keeper of the style. Nothing imports it."""
