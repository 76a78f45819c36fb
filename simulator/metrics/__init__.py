"""Numbers from records: pure functions, NumPy only, the unit in the key."""
