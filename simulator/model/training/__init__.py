"""What training asks of a chip: micro-batches forward and backward, and how they lie over the chips."""
