"""Real answers kept in a folder, to be given again without key, network and bill."""
