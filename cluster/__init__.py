"""Many nodes as one store: empty, since this version of kvstore runs in one process only."""
