"""Blocks that several tasks share. Something moves here when its second user comes."""
