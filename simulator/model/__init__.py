"""What a model asks of a machine: parameters, key-value cache, the operations of a step. No time in here."""
