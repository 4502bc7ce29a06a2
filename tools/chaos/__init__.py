"""Attacks real processes on a schedule while clients record histories, and checks what they saw."""
