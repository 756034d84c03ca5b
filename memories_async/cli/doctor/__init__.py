"""What the doctor looks at: the installation, the way to the service, and its answers."""
