"""Names of the metric by which nodes publish their load: for the permission, and for policies that track it.

`server/scaling_metric.py` has the same, and a test compares them: neither may import the other.
"""

NAMESPACE = "Goldenfleet"
METRIC = "RequestsInFlight"
STACK_DIMENSION = "Stack"
TIER_DIMENSION = "Tier"
