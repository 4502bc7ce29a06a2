"""The command kvstore: what it does, each in a file of its own, on top of kvstore.client."""
