from bench.cli import main

main(prog_name="scripts/bench-server")
