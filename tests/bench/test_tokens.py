import pytest

from bench.tokens import read_prompt, text_of, token_id, token_text


def test_a_continuation_by_ids_says_the_rest() -> None:
    """Whoever is asked with the ids of a prompt and of its first tokens goes on with the very next token."""
    prompt = read_prompt({"prompt": "42 once upon a time"})
    whole = text_of(prompt.key, len(prompt.ids), 9)

    continued = read_prompt({"prompt": prompt.ids + [token_id(len(prompt.ids) + n) for n in range(4)]})

    assert text_of(prompt.key, len(prompt.ids), 4) + text_of(continued.key, len(continued.ids), 5) == whole


@pytest.mark.parametrize("kind", ["prompt", "messages"])
def test_a_continuation_by_text_says_the_rest(kind: str) -> None:
    """Text that is sent back counts as the tokens that it was made of, in a completion and in a chat."""
    prompt = "7 go on"
    first = text_of(7, 3, 2)
    said = {"role": "user", "content": prompt}, {"role": "assistant", "content": first}
    body = {"prompt": prompt + first} if kind == "prompt" else {"messages": list(said)}

    continued = read_prompt(body)

    assert token_text(continued.key, len(continued.ids)) == " 7.5"


def test_prompts_of_other_keys_get_other_texts() -> None:
    """An answer that was made for another request shows."""
    assert text_of(1, 3, 5) != text_of(2, 3, 5)


def test_a_prompt_without_a_number_has_key_zero() -> None:
    """A readiness probe of a router, whatever it says, is answered."""
    assert read_prompt({"prompt": "ping"}).key == 0
    assert read_prompt({}).ids == []
