"""Training steps against measured runs, and the fit of training stacks."""
