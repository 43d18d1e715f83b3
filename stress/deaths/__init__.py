"""Owners of slots, leases and rings that die or stop: what they leave behind, and who waits for them."""
