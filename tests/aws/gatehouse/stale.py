"""Looks that show the past: what was made, changed or removed is seen by all looks only after a while.

"Eventual consistency in the Amazon EC2 API" (ec2/latest/devguide/eventual-consistency.html) tells of it. Each look is as of
a moment up to so many milliseconds ago, and shows exactly what there was then: the account is copied at every change.
"""

import random

from . import copies


class Past:
    """What the account was, for as long as a look may be late."""

    def __init__(self):
        self.clear()

    def clear(self):
        """Forgets it all; looks show the present."""
        self.lag_ms, self.states = 0, []
        self.chance = random.Random(2)

    def lags(self, lag_ms, region, now):
        """Looks may be so late from now on."""
        self.lag_ms, self.states = lag_ms, []
        self.note(region, now)

    def note(self, region, now):
        """Remembers what there is from now on."""
        if self.lag_ms:
            since = now - self.lag_ms / 1000
            older = [number for number, (at, _) in enumerate(self.states) if at <= since]
            self.states = [*self.states[older[-1] if older else 0 :], (now, copies.copied(region, None))]

    def look(self, call, now, ask):
        """Answers a look as of a moment ago; `ask` answers it from what there is."""
        if not self.lag_ms or call.service not in ("ec2", "elasticloadbalancing"):
            return ask()
        then = now - self.chance.random() * self.lag_ms / 1000
        # What it was before it was written down first is what it was then.
        shown = max([number for number, (at, _) in enumerate(self.states) if at <= then], default=0)
        if shown == len(self.states) - 1:
            return ask()
        here = copies.present(call.region)
        copies.exchange(call.region, copies.opened(self.states[shown][1])[0])
        try:
            return ask()
        finally:
            copies.exchange(call.region, here)
