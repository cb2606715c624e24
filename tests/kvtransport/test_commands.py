"""What other threads want of a transport's thread."""

from __future__ import annotations

from kvtransport.commands import Commands


def test_what_is_discarded_while_commands_run_is_not_run() -> None:
    commands, ran = Commands(wake=lambda: None), list[str]()
    commands.add(lambda: ran.append("first"))
    commands.add(commands.discard)
    commands.add(lambda: ran.append("third"))

    commands.run()

    assert ran == ["first"]
    assert not commands
    assert commands.failed == 0
