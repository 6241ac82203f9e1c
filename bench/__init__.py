"""Measures gateways side by side on this machine. Entry: scripts/bench-server."""
