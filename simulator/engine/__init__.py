"""What happens over time: requests, batches, replicas, and what they leave behind."""
