"""Faults made on purpose: what tests put between a client and its Redis."""
