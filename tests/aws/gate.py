#!/usr/bin/env python3
"""moto's AWS server as a peer for tests, and a gate in front of it, in one process on loopback.

    gate.py            prints the port that it listens on, and ends with its parent

moto answers for EC2, load balancers, S3, STS and IAM. The gate adds what a real account does and moto does not
(`gatehouse`), and obeys tests at `/_gate/`:

    GET  calls                  the calls so far            DELETE calls     forgets them
    POST faults [..]            things that go wrong        DELETE faults    nothing goes wrong any more
    POST settings {..}          limits, delays, seeds       POST reset       an empty account
    POST hold {..}              stops at one call           GET  held        waits until it has stopped there
    DELETE tokens               forgets client tokens
    POST release                what was held is dropped    GET  account     everything there is (account?named)
    POST watch                  stops at every moment       POST on          goes on to the next
    POST copy                   keeps a copy of it all      POST restore {}  is again as the copy `state`
"""

import ctypes
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What moto takes without looking unless it is told: images, key pairs, types of instances. Read when it is imported.
os.environ.update(
    MOTO_AMIS_PATH=str(HERE / "images.json"),
    MOTO_ENABLE_AMI_VALIDATION="true",
    MOTO_ENABLE_KEYPAIR_VALIDATION="true",
    MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION="true",
)

from moto.core import DEFAULT_ACCOUNT_ID  # noqa: E402
from moto.core.base_backend import BackendDict  # noqa: E402
from moto.ec2.models import ec2_backends  # noqa: E402
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE  # noqa: E402
from moto.elbv2.models import elbv2_backends  # noqa: E402
from moto.server import DomainDispatcherApplication, create_backend_app  # noqa: E402

from gatehouse import account, balancers, copies, mends, refusals  # noqa: E402
from gatehouse.faults import Faults, broken, linger  # noqa: E402
from gatehouse.hold import Hold  # noqa: E402
from gatehouse.query import Answer, failed  # noqa: E402
from gatehouse.stale import Past  # noqa: E402
from gatehouse.tokens import Tokens  # noqa: E402
from gatehouse.wire import Server  # noqa: E402

EC2_PREFIX_TO_RESOURCE.update({"pg": "placement-group", "eipalloc": "elastic-ip", "nat": "natgateway"})
REGION = "eu-central-1"


class World:
    """The account. One call at a time touches it."""

    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.lock = threading.RLock()
        self.limits, self.agenda = {}, []
        self.tokens, self.past, self.balancers = Tokens(), Past(), balancers.Balancers()
        self.changes, self.copies = 0, {}

    def machines(self, region):
        """EC2 in one region."""
        backend = ec2_backends[DEFAULT_ACCOUNT_ID][region or REGION]
        if not hasattr(backend, "placement_groups"):
            backend.placement_groups = {}
        return backend

    def reset(self):
        """An account in which nothing was ever made."""
        with self.lock:
            BackendDict.reset()
            self.agenda.clear()
            self.limits.clear()
            self.tokens.clear()
            self.past.clear()
            self.balancers.clear()
            self.changes, self.copies = 0, {}

    def copy(self):
        """Keeps a copy of the account, and tells its number: the same until something was changed."""
        with self.lock:
            self.let_happen()
            assert not self.agenda, "what is still to happen is in no copy"
            if self.changes not in self.copies:
                memory = self.tokens.known, self.balancers.made
                self.copies[self.changes] = copies.copied(REGION, memory)
            return self.changes

    def restore(self, number):
        """Is again as it was."""
        with self.lock:
            services, (self.tokens.known, self.balancers.made) = copies.opened(self.copies[number])
            copies.exchange(REGION, services)
            self.agenda.clear()
            # What comes now is no part of the history that was copied.
            self.changes = max(self.copies) + 1

    def later(self, wait_ms, happens):
        """Something that happens by itself after a while."""
        self.agenda.append((time.monotonic() + wait_ms / 1000, happens))

    def let_happen(self):
        """Lets happen what is due."""
        now = time.monotonic()
        due = [happens for at, happens in self.agenda if at <= now]
        self.agenda = [(at, happens) for at, happens in self.agenda if at > now]
        for happens in due:
            happens()
        if due:
            self.past.note(REGION, now)

    def perform(self, call):
        """Does what a call asks for."""
        with self.lock:
            self.let_happen()
            if call.looks():
                return self.past.look(call, time.monotonic(), lambda: self.work(call))
            self.changes += 1
            if call.service == "elasticloadbalancing":
                backend = elbv2_backends[DEFAULT_ACCOUNT_ID][call.region]
                answer = self.balancers.perform(call, backend, lambda call: self.balance(call, backend))
            elif call.service == "ec2":
                answer = self.tokens.perform(call, self.machines(call.region), self.work)
            else:
                answer = self.moto_answers(call)
            self.past.note(call.region, time.monotonic())
            return answer

    def work(self, call):
        """One call to EC2 that is not a repetition."""
        if call.service != "ec2":
            return self.moto_answers(call)
        backend = self.machines(call.region)
        refused = refusals.refusal(call, backend, self.limits)
        if refused:
            return refused
        instead = mends.INSTEAD.get(call.action)
        answer = instead(self, call, backend) if instead else None
        answer = answer or mends.reworded(call, self.moto_answers(call))
        after = mends.AFTER.get(call.action)
        return after(self, call, backend, answer) if after and answer.ok() else answer

    def balance(self, call, backend):
        """One change of load balancers."""
        machines = self.machines(call.region)
        gone = backend.load_balancers.get(call.params.get("LoadBalancerArn"))
        answer = self.moto_answers(call)
        if answer.ok() and call.action == "CreateLoadBalancer":
            balancers.after_create(self, answer, backend, machines)
        if answer.ok() and call.action == "DeleteLoadBalancer" and gone is not None:
            interfaces = [eni for eni in getattr(gone, "interfaces", [])]
            self.later(self.limits.get("terminating_ms", 0), lambda: [mends.drop_eni(machines, one) for one in interfaces])
            self.let_happen()
        return answer

    def moto_answers(self, call):
        """moto's own answer. What it does not know it answers with a page of HTML; the service has errors for that."""
        got = {}

        def start(status, headers, _error=None):
            got.update(status=int(status.split()[0]), headers=headers)

        try:
            body = b"".join(self.moto(call.environ(), start))
        except Exception as error:  # moto's own mistakes come up to here, as do filters that it does not know
            got["status"], body = 500, repr(error).encode()
        if got["status"] >= 500 and call.service in ("ec2", "elasticloadbalancing"):
            text = body.decode("utf-8", "replace").replace("\n", " ")[-300:]
            print(f"moto cannot answer {call.action}: {text}", file=sys.stderr)
            return failed(call, "InvalidParameterValue", f"moto cannot answer {call.action}: {text}")
        return Answer(got["status"], body, got["headers"])


class Gate:
    """What every call passes, and what tests talk to."""

    def __init__(self):
        self.world, self.faults, self.hold = World(), Faults(), Hold()
        self.lock, self.calls, self.began = threading.Lock(), [], time.monotonic()

    def answer(self, call):
        """The answer to a call, and what is to be told when it is sent; no answer closes the connection."""
        with self.lock:
            number = len(self.calls) + 1
            entry = {"nth": number, "action": call.action, "service": call.service, "who": call.who}
            entry |= {"ms": int((time.monotonic() - self.began) * 1000), "attempt": attempt(call)}
            entry["token"] = call.params.get("ClientToken")
            self.calls.append(entry)
            fault = self.faults.choose(call) or {}
            refused = self.faults.refusal(call, time.monotonic())
        linger(fault)
        if self.hold.watched:
            return self.watched(call, entry)
        held = self.hold.arrives(call)
        if held == "dropped":
            entry["outcome"] = "dropped"
            return None, nothing
        if refused or (fault and fault.get("when", "before") == "before" and breaks(fault)):
            entry["outcome"] = "refused"
            return refused or broken(call, fault), nothing
        answer = self.world.perform(call)
        entry["outcome"] = answer.status
        if held and not self.hold.done(held):
            entry["outcome"] = "lost"
            return None, nothing
        if fault.get("when") == "after" and breaks(fault):
            entry["outcome"] = "lost"
            return broken(call, fault), nothing
        return answer, self.hold.tell if held else nothing

    def watched(self, call, entry):
        """The answer to a call while somebody watches every moment of it."""
        entry["outcome"] = "dropped"
        if not self.hold.passes(entry, "before"):
            return None, nothing
        answer = self.world.perform(call)
        if not self.hold.passes(entry, "effect"):
            return None, nothing
        entry["outcome"] = answer.status
        return answer, lambda: self.hold.passes(entry, "answer")

    def control(self, method, path, raw):
        """What a test asks."""
        what, _, query = path.partition("?")
        told = json.loads(raw) if raw else {}
        return getattr(self, f"{method.lower()}_{what}")(told, query)

    def get_calls(self, _told, _query):
        """All calls so far."""
        with self.lock:
            return list(self.calls)

    def delete_calls(self, _told, _query):
        """Forgets the calls."""
        with self.lock:
            self.calls = []

    def post_faults(self, told, _query):
        """More that goes wrong."""
        with self.lock:
            self.faults.add(told)

    def delete_faults(self, _told, _query):
        """Nothing goes wrong any more."""
        with self.lock:
            self.faults.clear()
            self.world.past.clear()

    def post_settings(self, told, _query):
        """Limits and delays: `addresses`, `instances`, `pending_ms`, `terminating_ms`; `buckets`, `forbidden`, `stale_ms`,
        `seed`."""
        with self.lock, self.world.lock:
            self.faults.limited = told.pop("buckets", self.faults.limited)
            self.faults.forbidden = set(told.pop("forbidden", self.faults.forbidden))
            self.world.past.lags(told.pop("stale_ms", self.world.past.lag_ms), REGION, time.monotonic())
            if "seed" in told:
                self.faults.chance = random.Random(told["seed"])
                self.world.past.chance = random.Random(told.pop("seed"))
            self.world.limits.update(told)

    def post_reset(self, _told, _query):
        """An empty account, and nothing that goes wrong."""
        self.hold.release()
        with self.lock:
            self.calls = []
            self.faults.clear()
        self.world.reset()

    def delete_tokens(self, _told, _query):
        """So much time passes that client tokens are forgotten."""
        with self.world.lock:
            self.world.tokens.clear()

    def post_hold(self, told, _query):
        """Stops at the `nth` call from now on that matches `action`, at its `moment`: before, effect, or answer."""
        self.hold.arm(told)

    def get_held(self, _told, query):
        """Waits until it has stopped, for so many seconds at most."""
        return self.hold.wait(float(query or 30))

    def post_release(self, _told, _query):
        """Drops what was held, and goes on."""
        self.hold.release()

    def post_watch(self, _told, _query):
        """Stops at every moment of every call from now on: before, effect, and answer."""
        self.hold.watch()

    def post_on(self, _told, _query):
        """Goes on to the next moment."""
        self.hold.go_on()

    def post_copy(self, _told, _query):
        """Keeps a copy of the account."""
        return self.world.copy()

    def post_restore(self, told, _query):
        """The account is again as it was when a copy was kept."""
        self.world.restore(told["state"])

    def get_account(self, _told, query):
        """Everything that there is."""
        with self.world.lock:
            self.world.let_happen()
            return account.dump(self.world.work, REGION, "named" in query)


def attempt(call):
    """Which attempt of the same call this is, as an SDK says it."""
    said = call.headers.get("amz-sdk-request", "")
    return next((int(part[8:]) for part in said.split("; ") if part.startswith("attempt=")), 1)


def breaks(fault):
    """Whether a fault is more than a delay."""
    return "code" in fault or fault.get("close")


def nothing():
    """There is nothing to tell."""


def end_with_parent():
    """Asks the kernel to end this process with the one that started it, however that ends."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    end_with_parent()
    logging.disable(logging.CRITICAL)
    server = Server(Gate())
    print(server.server_address[1], flush=True)
    server.serve_forever()
