"""Presses the keys and buttons of an attribution's page in Chromium and says what plays: ``python
dev/page_keys.py attributed/report.html``. Not part of the tests, which need no browser; exit code 1 if a key
does not do what the page says it does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLAYING = "[...document.querySelectorAll('audio')].filter(a => !a.paused).map(a => [a.id, a.currentTime])"
PAIR = "document.querySelector('button[data-player]')"


class Browser:
    """Chromium behind its debugging pipe: JSON messages that end in a zero byte."""

    def __init__(self, profile: str) -> None:
        to_read, to_write = os.pipe()
        self.read, back = os.pipe()
        flags = "--headless=new --no-sandbox --disable-gpu --autoplay-policy=no-user-gesture-required"
        command = f"exec chromium {flags} --user-data-dir={profile} --remote-debugging-pipe about:blank"
        self.process = subprocess.Popen(
            ["bash", "-c", f"{command} 3<&{to_read} 4>&{back}"],
            pass_fds=(to_read, back),
            stderr=subprocess.DEVNULL,
        )
        self.write, self.left, self.sent, self.session = to_write, b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **params: object) -> dict[str, Any]:
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.left:
                self.left += os.read(self.read, 1 << 20)
            raw, self.left = self.left.split(b"\0", 1)
            answer = json.loads(raw)
            if answer.get("id") == self.sent:
                return answer["result"]

    def js(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def press(self, key: str) -> None:
        text = "" if key == "Escape" else key
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def main(page: Path) -> int:
    wrong = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        b = Browser(profile)
        b.call("Page.navigate", url=page.resolve().as_uri())
        time.sleep(2)

        def after(
            what: str, act: Callable[[], object], wait_s: float, right: Callable[[list[Any]], bool]
        ) -> list[Any]:
            nonlocal wrong
            act()
            time.sleep(wait_s)
            playing = b.js(PLAYING)
            good = right(playing)
            wrong += not good
            said = b.js("document.getElementById('said').textContent")
            print(f"{'ok' if good else 'WRONG':6}{what:22}{playing}  {said}")
            return playing

        def only(identifier: str, low: float = 0, high: float = 1e9) -> Callable[[list[Any]], bool]:
            return lambda p: len(p) == 1 and p[0][0] == identifier and low <= p[0][1] <= high

        ((_, at),) = after("space", lambda: b.press(" "), 0.8, only("clip"))
        ((_, at),) = after("2", lambda: b.press("2"), 0.3, only("track-2", at, at + 1))
        ((_, a),) = after("0", lambda: b.press("0"), 0.3, only("clip", at, at + 1))
        after("a", lambda: b.press("a"), 0.5, only("clip"))
        after("b", lambda: b.press("b"), 0.4, only("clip", a - 0.1, a + 1))
        for _ in range(3):
            after("looping", lambda: None, 0.4, only("clip", a - 0.1, a + 1))
        after("escape", lambda: b.press("Escape"), 1.2, only("clip", a + 0.6))
        after("space", lambda: b.press(" "), 0.2, lambda p: p == [])
        if b.js(f"{PAIR} !== null"):
            starts, ends = b.js(f"{PAIR}.dataset.clip.split(' ').map(Number)")
            track = b.js(f"{PAIR}.dataset.player")
            after("in turn", lambda: b.js(f"{PAIR}.click()"), 0.2, only("clip", starts, ends))
            after("the other", lambda: None, ends - starts, only(track))
            after("in turn, again", lambda: b.js(f"{PAIR}.click()"), 0.2, lambda p: p == [])
        b.call("Browser.close")
        b.process.wait(10)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
