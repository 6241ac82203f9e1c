from bench.clients.cli import main

main(prog_name="scripts/bench-clients")
