"""Training on a machine: the cost of a step, its memory, its power, and the search for a layout."""
