"""Many nodes as one store: where keys are, and the nodes of one machine together."""
