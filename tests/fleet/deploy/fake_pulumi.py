"""Stands for the pulumi executable: replays an event log, and notes how it was started."""

import json
import os
import signal
import sys
from pathlib import Path

# A shell that runs the tests in its background has them ignore Ctrl-C, and their children too.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(__file__).parent
play = json.loads((folder / "play.json").read_text())
words = sys.argv[1:]
config = Path(words[words.index("--config-file") + 1]).read_text() if "--config-file" in words else None
call = {"words": words, "environment": dict(os.environ), "config": config, "folder": str(Path.cwd())}
with (folder / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(call) + "\n")
if "--event-log" in words and os.environ.get("PULUMI_DEBUG_COMMANDS") != "true":
    sys.exit("error: unknown flag: --event-log")
sys.stdout.write(play["says"])
with Path(words[words.index("--event-log") + 1]).open("a") as log:
    log.write(play["lines"])
if play["waits"]:
    (folder / "begun").write_text("x")
    try:
        signal.pause()
    except KeyboardInterrupt:
        (folder / "interrupted").touch()
        sys.exit(255)
sys.exit(play["code"])
