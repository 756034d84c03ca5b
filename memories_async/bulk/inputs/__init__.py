"""What a job is given: found, chosen and read, never all of it at once."""
