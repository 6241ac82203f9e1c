"""Where Pulumi starts the program."""

from fleet.stack.program import main

main()
