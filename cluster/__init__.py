"""Many nodes as one store: routing info, the rules of chains, placement, and the metadata store."""
