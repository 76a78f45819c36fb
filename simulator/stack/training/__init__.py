"""Training stacks: what a framework reaches of a machine, dated, with sources."""
