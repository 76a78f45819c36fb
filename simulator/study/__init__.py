"""Many runs: studies over any key of a scenario, computed once, in parallel, and kept by their content."""
