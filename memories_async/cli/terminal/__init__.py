"""What people see and answer at a terminal, and what programs read from stdout."""
