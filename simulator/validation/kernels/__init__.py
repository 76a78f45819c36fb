"""Single kernels against timed calls, and the fit of kernel libraries."""
