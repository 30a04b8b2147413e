"""Client tokens: a call that is sent again is the same call. moto keeps tokens and does not look at them.

"Ensuring idempotency in Amazon EC2 API requests" (ec2/latest/devguide/ec2-api-idempotency.html) says what the service does.
"""

import re

from .query import failed

# What is not part of what was asked for.
APART = {"ClientToken", "Action", "Version", "DryRun"}
MISMATCH = "The request uses the same client token as a previous, but non-identical request."
TERMINATED = (
    "The request to launch an instance uses the same client token as a previous request, but the instance was terminated."
)


class Tokens:
    """The tokens of an account, and what each one made."""

    def __init__(self):
        self.known = {}

    def clear(self):
        """Forgets all of them."""
        self.known.clear()

    def perform(self, call, backend, work):
        """Does the work of a call once for its token."""
        token = call.params.get("ClientToken")
        if not token:
            return work(call)
        key = (call.service, call.region, call.action, token)
        asked = sorted((name, value) for name, value in call.params.items() if name not in APART)
        if key not in self.known:
            answer = work(call)
            if answer.ok():
                self.known[key] = (asked, answer)
            return answer
        before, answer = self.known[key]
        if before != asked:
            return failed(call, "IdempotentParameterMismatch", MISMATCH)
        if call.action == "RunInstances" and gone(backend, answer):
            return failed(call, "IdempotentInstanceTerminated", TERMINATED)
        return answer


def gone(backend, answer):
    """Whether an instance that was made with a token is no more."""
    ids = re.findall(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", answer.body)
    instances = [backend.get_instance_by_id(one.decode()) for one in ids]
    return any(one is None or one.state in ("shutting-down", "terminated") for one in instances)
