"""What an operator sees of a running proxy, and asks of it. Floor 5."""
