"""The measurements: each module measures one thing and says which goal it has."""
