"""Base disks for local bakes: a bare Debian that boots, takes cloud-init's seed, and lets us in."""
