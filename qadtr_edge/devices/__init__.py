"""Devices: what they draw, what state they are in, and how work gets there and back."""
