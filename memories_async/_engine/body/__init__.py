"""From fields and files to the bytes of a request: layout, writer, budget."""
