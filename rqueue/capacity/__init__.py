"""What feeds the pools: each module reads one kind of source into the same Pool."""
