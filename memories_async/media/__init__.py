"""What may be sent: sources, rules, formats, readers."""
