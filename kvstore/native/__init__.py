"""The C core as Python sees it, one module for each concept; the only place that touches it."""
