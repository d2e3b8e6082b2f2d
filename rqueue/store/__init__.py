"""All of Redis: the keys, the scripts, and one method for each."""
