"""The daemon around the C core's node: configuration, log, metrics, signals; no value passes."""
