"""The manager of a cluster: who is alive, which target has which place, and who must know."""
