"""What people's clients lose when gateways behind Envoy are killed, and what ours takes to install."""
