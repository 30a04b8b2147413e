"""One call to the service, its answer, and the two forms in which the service says that something is wrong."""

import io
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode
from xml.sax.saxutils import escape

EC2_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


@dataclass
class Answer:
    """What goes back."""

    status: int
    body: bytes
    headers: list = field(default_factory=lambda: [("Content-Type", "text/xml;charset=UTF-8")])

    def ok(self):
        """Whether the call had its effect."""
        return self.status < 300


@dataclass
class Call:
    """What came."""

    method: str
    path: str
    headers: dict
    raw: bytes
    service: str = ""
    region: str = ""
    who: str = ""
    action: str = ""
    params: dict = field(default_factory=dict)

    @staticmethod
    def read(method, path, headers, raw):
        """The call, with what its signature's scope and its form say."""
        call = Call(method, path, headers, raw)
        scope = headers.get("authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
        if len(scope) >= 4:
            call.who, _, call.region, call.service = scope[:4]
        if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            call.params = dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
            call.action = call.params.get("Action", "")
        if not call.action:
            call.action = f"{method} {path.partition('?')[0]}"
        return call

    def with_params(self, params):
        """The same call with another form."""
        raw = urlencode(params).encode()
        headers = {**self.headers, "content-length": str(len(raw))}
        return Call(self.method, self.path, headers, raw, self.service, self.region, self.who, self.action, params)

    def many(self, name):
        """The values of a list in the form, as in `InstanceId.1`, `InstanceId.2`."""
        found = [(key[len(name) + 1 :], value) for key, value in self.params.items() if key.startswith(f"{name}.")]
        return [value for number, value in sorted(found) if number.isdigit()]

    def looks(self):
        """Whether it only looks."""
        return self.action.startswith(("Describe", "Get", "List", "HEAD", "GET"))

    def environ(self):
        """The call as a WSGI application reads it."""
        path, _, query = self.path.partition("?")
        environ = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "RAW_URI": self.path,
            "REQUEST_URI": self.path,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(self.raw),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in self.headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        return environ


def failed(call, code, message, status=400):
    """An error, in the form of the service that was called."""
    what = f"<Error>{{}}<Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    if call.service == "ec2":
        body = f"<Response><Errors>{what.format('')}</Errors><RequestID>gate</RequestID></Response>"
    else:
        kind = f"<Type>{'Receiver' if status >= 500 else 'Sender'}</Type>"
        body = f"<ErrorResponse>{what.format(kind)}<RequestId>gate</RequestId></ErrorResponse>"
    return Answer(status, f'<?xml version="1.0" encoding="UTF-8"?>{body}'.encode())


def done(call, inside="<return>true</return>"):
    """An answer of EC2 that moto does not give."""
    name = f"{call.action}Response"
    body = f'<{name} xmlns="{EC2_NAMESPACE}"><requestId>gate</requestId>{inside}</{name}>'
    return Answer(200, f'<?xml version="1.0" encoding="UTF-8"?>{body}'.encode())
