from fleet.policy.pack import serve

serve()
