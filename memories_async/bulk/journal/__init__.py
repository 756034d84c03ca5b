"""The file that remembers a job: its tables, its queries, its lock."""
