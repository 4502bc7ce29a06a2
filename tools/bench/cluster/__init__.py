"""Clusters of real processes for the rows about them: members, their links and their devices."""
