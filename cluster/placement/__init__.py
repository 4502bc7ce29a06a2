"""Placement: which targets form a chain, and which chain holds which slots. Pure."""
