"""The commands of ``memories-async``, a module each: arguments in, results and exit status out."""
