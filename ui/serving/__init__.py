"""What makes the demo a server: limits, the desk that admits work, figures, login, and the sweeping of old files."""
