"""Open-loop load on an endpoint: requests leave when the plan says, however slow the answers are."""
