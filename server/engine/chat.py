"""The chat template, in plain text: each message is a heading of its role, the content and a blank line.

    ### System          (only when there is such a message)
    You are brief.

    ### User
    What is a page?

    ### Assistant
    A page is a fixed number of tokens in the cache.

The answer begins after the last heading and ends with the end-of-text token. With `add_generation_prompt`
false and `continue_final_message` true the text ends inside the last message, which the answer continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ROLES = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True)
class Message:
    """`role` is a key of ROLES."""

    role: str
    content: str


def render(messages: Sequence[Message], *, add_generation_prompt: bool, continue_final_message: bool) -> str:
    text = "".join(f"### {ROLES[message.role]}\n{message.content}\n\n" for message in messages)
    if continue_final_message:
        return text.removesuffix("\n\n")
    return text + "### Assistant\n" if add_generation_prompt else text
