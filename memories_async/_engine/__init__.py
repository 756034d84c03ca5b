"""From an operation and its payload to a typed value; knows no endpoint by name.

May import batches, limiters, observe and below.
"""
