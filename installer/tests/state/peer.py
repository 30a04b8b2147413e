"""S3 for tests: moto behind a gate. Prints its port, and ends when its standard input does.

moto looks at a condition and then writes; between the two another request may come. S3 does both at once, so the gate lets
one request through at a time. It can also be told to fail in the ways that networks do, under paths that begin with `/-/`:

  rule?do=WHAT&method=M&part=P&skip=N&times=T   for T requests (all: 0) after the first N that match
      before    keep the request back until `open`      after   carry it out, and keep the answer back until `open`
      lose      carry it out, and answer 500            fail    answer 503
      careless  forget its conditions
  open    let go of whatever is kept back               waiting  how many are
  clear   forget all rules                              dump    everything that is stored
"""

import json
import sys
import threading
from urllib.parse import parse_qsl

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "clusters"


class Gate:
    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.one = threading.Lock()
        self.rules, self.held, self.gate = [], 0, threading.Event()

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path.startswith("/-/"):
            query = dict(parse_qsl(environ["QUERY_STRING"]))
            body = json.dumps(getattr(self, path[3:])(**query)).encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        what = self.match(environ["REQUEST_METHOD"], path)
        if what == "fail":
            start_response("503 Slow Down", [("Content-Length", "0")])
            return []
        if what == "careless":
            environ.pop("HTTP_IF_MATCH", None)
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if what == "before":
            self.keep_back()
        status, headers, body = self.carry_out(environ)
        if what == "after":
            self.keep_back()
        if what == "lose":
            status, headers, body = "500 Lost", [("Content-Length", "0")], []
        start_response(status, headers)
        return body

    def carry_out(self, environ):
        answer = {}

        def begin(status, headers, _exc_info=None):
            answer["head"] = (status, headers)

        with self.one:
            body = list(self.moto(environ, begin))
        return *answer["head"], body

    def match(self, method, path):
        for rule in self.rules:
            if method != rule["method"] or rule["part"] not in path:
                continue
            rule["seen"] += 1
            at = rule["seen"] - rule["skip"]
            if at > 0 and (rule["times"] == 0 or at <= rule["times"]):
                return rule["do"]
        return None

    def keep_back(self):
        gate = self.gate
        self.held += 1
        gate.wait()
        self.held -= 1

    def rule(self, do, part, method="PUT", skip="0", times="1"):
        rule = {"do": do, "method": method, "part": part, "skip": int(skip), "times": int(times), "seen": 0}
        self.rules.append(rule)

    def open(self):
        self.gate.set()
        self.gate = threading.Event()

    def waiting(self):
        return self.held

    def clear(self):
        self.rules = []

    def dump(self):
        keys = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[BUCKET].keys
        return {name: key.value.decode("latin-1") for name, key in keys.items()}


server = make_server("127.0.0.1", 0, Gate(), threaded=True)
s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(BUCKET, "us-east-1")
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
