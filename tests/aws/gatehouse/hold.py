"""Stops time at one call, so that whoever made it can be killed just there.

    before   it arrived, and nothing has happened
    effect   its work is done, and no answer was sent
    answer   its answer was sent

From then on no other call has an effect, until what is held is released: dropped, with its connection.

Whoever only watches lets time stand still at every moment of every call, and go on from each.
"""

import fnmatch
import threading

MOMENTS = ("before", "effect", "answer")


class Hold:
    """One point to stop at."""

    def __init__(self):
        self.changed = threading.Condition()
        self.armed, self.stopped, self.era, self.passed, self.told = None, None, 0, 0, False
        self.watched = False

    def arm(self, point):
        """Stops at the `nth` call that matches `action`, at `moment`."""
        assert point["moment"] in MOMENTS, point
        with self.changed:
            self.armed, self.stopped, self.passed, self.told = point, None, 0, False

    def watch(self):
        """Stops at every moment of every call from now on, one after the other."""
        with self.changed:
            self.armed, self.stopped, self.passed, self.told, self.watched = None, None, 0, False, True

    def passes(self, entry, moment):
        """A watched call comes to a moment; false if nobody watches any more and it is dropped."""
        with self.changed:
            era = self.era
            self.changed.wait_for(lambda: not self.stopped or self.era != era)
            if self.era != era:
                return False
            mine = self.stopped = {"action": entry["action"], "nth": entry["nth"], "moment": moment}
            self.tell()
            self.changed.wait_for(lambda: self.stopped is not mine or self.era != era)
            return self.era == era

    def go_on(self):
        """Time goes on to the next moment."""
        with self.changed:
            self.stopped, self.told = None, False
            self.changed.notify_all()

    def arrives(self, call):
        """A call comes: `dropped` if it is too late or is the point, else the moment at which it will be."""
        with self.changed:
            if self.stopped:
                return self.dropped()
            if not self.armed or not fnmatch.fnmatch(call.action, self.armed.get("action", "*")):
                return None
            self.passed += 1
            if self.passed != self.armed.get("nth", 1):
                return None
            moment, self.by = self.armed["moment"], call.action
            if moment != "before":
                return moment
            self.stop()
            self.tell()
            return self.dropped()

    def stop(self):
        """Time stands still."""
        self.stopped = {"action": self.by, "nth": self.passed, "moment": self.armed["moment"]}

    def tell(self):
        """Lets whoever waits know."""
        with self.changed:
            self.told = True
            self.changed.notify_all()

    def dropped(self):
        """Waits until it is released, and is dropped then."""
        era = self.era
        self.changed.wait_for(lambda: self.era != era)
        return "dropped"

    def done(self, moment):
        """The work of the call is done; true if it may be answered, after which it is to be told."""
        with self.changed:
            if self.armed is None:
                return True
            self.stop()
            if moment == "effect":
                self.tell()
                self.dropped()
            return moment != "effect"

    def wait(self, seconds):
        """Where time was stopped; `None` if it was not."""
        with self.changed:
            self.changed.wait_for(lambda: self.told, seconds)
            return self.stopped if self.told else None

    def release(self):
        """Everything goes on; what was held is dropped."""
        with self.changed:
            self.armed = self.stopped = None
            self.told = self.watched = False
            self.era += 1
            self.changed.notify_all()
