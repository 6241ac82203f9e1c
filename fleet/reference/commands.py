"""docs/commands.md: every command's own help."""

from __future__ import annotations

from collections.abc import Iterator

import click

_HEAD = """# Commands

Made from the commands' own help by `scripts/reference`. Results go to stdout and everything else to stderr;
`--json` is for programs. Exit codes: 0 done, 1 it failed, 2 it was asked for wrongly, 3 no or wrong
credentials, 4 some of several targets failed, 6 not found, 8 not confirmed, 9 not in time, 130 Ctrl-C,
143 SIGTERM.
"""


def page(root: click.Command, name: str = "goldenfleet") -> str:
    return "\n".join([_HEAD, *_sections(root, click.Context(root, info_name=name))])


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    # As on a terminal of 100 columns, whatever this one has.
    formatter = context.make_formatter()
    formatter.width = 100
    command.format_help(context, formatter)
    yield f"## {context.command_path}\n\n```text\n{formatter.getvalue().rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _sections(child, click.Context(child, info_name=name, parent=context))
