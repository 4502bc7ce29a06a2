"""The metadata store: where the control plane keeps what must survive it."""
