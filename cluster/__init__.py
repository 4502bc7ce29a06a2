"""Many nodes as one store: routing info, chains, placement, metadata; nodes of one machine."""
