from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from images.errors import PlanRefused
from images.recipe import Recipe
from images.steps.command import Command, Materials, Upload
from images.steps.containers import containers

SHA = "f" * 64
INBOX = "/var/lib/goldenfleet/inbox"
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
PASSWORD = b"hunter2-from-ecr"
Lines = Callable[[Any], list[str]]


def test_archive(make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines) -> None:
    """An archive is uploaded, checked by sha256, loaded, removed, and its image looked for."""
    made = list(containers(make_recipe("rehearsal"), materials))
    path = f"{INBOX}/goldenfleet-server.tar"
    assert lines(made) == [
        f"upload {path}",
        (
            f"echo '{SHA}  {path}' | sha256sum --check --status || {{ echo 'container archive"
            f" goldenfleet-server.tar: the sha256 is not {SHA}; it is another than was meant' >&2; exit 1; }}"
        ),
        f"cat {path} | docker load --quiet",
        f"rm {path}",
        "docker image inspect --format '{{.Id}}' goldenfleet-server:local",
        "rm -rf /run/goldenfleet-login",
    ]
    upload = made[0]
    assert isinstance(upload, Upload)
    assert upload.source == make_recipe("rehearsal").path("../../build/goldenfleet-server.tar")


def test_compressed_archive(make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines) -> None:
    """A zstd archive is unpacked on the way into Docker."""
    archive = {"archive": "c.tar.zst", "image": "c:1", "sha256": SHA, "unpacked_gib": 1}
    made = lines(containers(make_recipe("gateway-cpu", server__container=archive), materials))
    assert f"zstd --decompress --stdout {INBOX}/c.tar.zst | docker load --quiet" in made


def test_unknown_build(make_recipe: Callable[..., Recipe]) -> None:
    """An archive of unknown digest is not loaded."""
    with pytest.raises(PlanRefused) as caught:
        list(containers(make_recipe("rehearsal"), Materials("run")))
    assert "make-container" in caught.value.hint


@pytest.mark.parametrize(
    ("reference", "name", "known"),
    [
        (f"vllm/x:v1@sha256:{SHA}", f"vllm/x@sha256:{SHA}", f"vllm/x@sha256:{SHA}"),
        (f"docker.io/vllm/x@sha256:{SHA}", f"docker.io/vllm/x@sha256:{SHA}", f"vllm/x@sha256:{SHA}"),
        (f"ghcr.io/a/x@sha256:{SHA}", f"ghcr.io/a/x@sha256:{SHA}", f"ghcr.io/a/x@sha256:{SHA}"),
    ],
)
def test_pull(
    make_recipe: Callable[..., Recipe],
    materials: Materials,
    lines: Lines,
    reference: str,
    name: str,
    known: str,
) -> None:
    """A container is pulled by digest, and what Docker has afterwards is held to it."""
    recipe = make_recipe("gateway-cpu", server__container={"reference": reference, "unpacked_gib": 1})
    assert lines(containers(recipe, materials)) == [
        f"docker --config /run/goldenfleet-login pull --quiet {name}",
        (
            f"docker image inspect --format '{{{{join .RepoDigests \"\\n\"}}}}' {name}"
            f" | grep --quiet --line-regexp --fixed-strings {known}"
        ),
        "rm -rf /run/goldenfleet-login",
    ]


def test_login(make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines) -> None:
    """The registry's password travels on stdin into a folder on tmpfs that is removed in the same step."""
    container = {"reference": f"{ECR}/x@sha256:{SHA}", "unpacked_gib": 1}
    recipe = make_recipe("gateway-cpu", server__container=container)
    given = dataclasses.replace(materials, registry_passwords={ECR: PASSWORD, "other.example": b"x"})
    made = list(containers(recipe, given))
    assert lines(made)[:2] == [
        "install -d -m 0700 /run/goldenfleet-login",
        f"docker --config /run/goldenfleet-login login --username AWS --password-stdin {ECR} >/dev/null 2>&1",
    ]
    assert lines(made)[-1] == "rm -rf /run/goldenfleet-login"
    login = made[1]
    assert isinstance(login, Command)
    assert (login.stdin, login.secret) == (PASSWORD, True)
    assert not any("other.example" in line for line in lines(made))
    assert PASSWORD.decode() not in repr(made)
    assert PASSWORD.decode() not in repr(given)
