"""A server of Google Cloud Storage's API on this machine, and programs for it.

The store is gcp-storage-emulator, a server of its own over HTTP. TensorFlow's
gs:// knows only https://www.googleapis.com and https://storage.googleapis.com,
but its libcurl obeys `https_proxy` and `CURL_CA_BUNDLE`. So a proxy stands
before the store: it ends TLS under a certificate made here, passes requests on,
keeps a list of them, and disturbs some if a test asks for it.

What the proxy adds because the store lacks it: an upload of no bytes (the mark
of a folder), a condition on an object's generation, the pages of a listing, and
the answer that nothing of an upload has arrived.
"""

import contextlib
import dataclasses
import datetime
import http.client
import http.server
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gcp_storage_emulator import server as emulator

BUCKET = "bucket"
TOKEN = "token-of-the-test"
_HOSTS = "www.googleapis.com", "storage.googleapis.com"
# Small, so that a test's few objects take several pages.
PAGE = 50


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that the proxy has received."""

    method: str
    path: str  # unquoted, without the query
    query: dict
    num_bytes: int  # of its body
    has_token: bool

    @property
    def is_listing(self):
        return self.method == "GET" and self.path.endswith(f"/b/{BUCKET}/o")

    @property
    def object(self):
        """The name of the object that is read, written or removed."""
        if "name" in self.query:
            return self.query["name"]
        if self.path.startswith("/storage/v1/"):
            return self.path.partition("/o/")[2].partition("/rewriteTo/")[0]
        return self.path.removeprefix(f"/{BUCKET}/")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What the proxy does instead of a correct answer."""

    status: int = 0  # answers with it; 0 for none
    body: str = ""
    cut_after: int | None = None  # passes on so many bytes of the body
    cut_answer_after: int | None = None  # sends so many bytes of the answer
    seconds: float = 0.0  # waits so long before the answer


class Storage:
    """The server; use it as a context manager.

    Set `fault` to a function from a `Request` to a `Fault` or None, and
    `hidden` to a function from an object's name to whether listings omit it.
    """

    def __init__(self, folder):
        self.requests = []
        self._certificate = str(folder / "storage.pem")
        self._context = _tls(self._certificate)
        self._store = None
        self._proxy = None
        self.reset()

    def reset(self):
        """Forgets the requests, and disturbs nothing any longer."""
        self.requests.clear()
        self.fault = lambda request: None
        self.hidden = lambda name: False

    def __enter__(self):
        port = _free_port()
        self._store = emulator.create_server(
            "127.0.0.1", port, in_memory=True, default_bucket=BUCKET
        )
        self._store.start()
        self._proxy = _Server(("127.0.0.1", 0), _Proxy)
        self._proxy.daemon_threads = True
        self._proxy.storage = self
        self._proxy.store_port = port
        self._proxy.tls = self._context
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._proxy.shutdown()
        self._proxy.server_close()
        self._store.stop()

    @property
    def environment(self):
        """Variables with which TensorFlow's gs:// comes here, and only here."""
        address = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        return {
            "https_proxy": address,
            "CURL_CA_BUNDLE": self._certificate,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": TOKEN,
            "NO_GCE_CHECK": "true",
            # Else a second try waits for up to two seconds.
            "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "0",
            # Instead of a minute.
            "GCS_REQUEST_IDLE_TIMEOUT_SECS": "2",
        }

    def count(self, method, part=""):
        """The number of requests of a method whose object has that part."""
        return sum(
            request.method == method and part in request.object
            for request in self.requests
        )

    def uploaded(self, part=""):
        """The bytes uploaded into objects whose name has that part."""
        return sum(
            request.num_bytes
            for request in self.requests
            if request.method == "PUT" and part in request.object
        )

    def objects(self, prefix=""):
        """Maps the names of objects to their bytes; no marks of folders."""
        return {
            name[len(prefix) :]: self.read(name)
            for name in self.names(prefix)
            if not name.endswith("/")
        }

    def names(self, prefix=""):
        query = urllib.parse.urlencode({"prefix": prefix})
        _, _, body = self.ask("GET", f"/storage/v1/b/{BUCKET}/o?{query}")
        return [item["name"] for item in json.loads(body)["items"]]

    def read(self, name):
        status, _, body = self.ask(
            "GET", f"/{BUCKET}/{urllib.parse.quote(name, safe='')}"
        )
        assert status == 200, (name, status)
        return body

    def write(self, name, content):
        query = urllib.parse.urlencode({"name": name})
        path = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&{query}"
        assert self.ask("POST", path, content)[0] == 200

    def ask(self, method, path, body=None, headers=None):
        """Asks the store itself; returns the status, headers and body."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._proxy.store_port, timeout=60
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Says nothing if a connection is lost: a test kills programs."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Ends the TLS of a tunnel, and passes its requests on to the store."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        host = self.path.partition(":")[0]
        if host not in _HOSTS:
            self.send_error(502, f"{host} is not the storage")
            return
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(
            self.connection, server_side=True
        )
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def _relay(self):
        storage = self.server.storage
        parts = urllib.parse.urlsplit(self.path)
        num_bytes = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command,
            path=urllib.parse.unquote(parts.path),
            query=dict(urllib.parse.parse_qsl(parts.query)),
            num_bytes=num_bytes,
            has_token=self.headers.get("Authorization") == f"Bearer {TOKEN}",
        )
        storage.requests.append(request)
        fault = storage.fault(request) or Fault()
        body = self._body(num_bytes)
        if fault.cut_after is not None:
            self._cut_upload(storage, body, fault.cut_after)
            return
        time.sleep(fault.seconds)
        if fault.status:
            answer = fault.status, {}, fault.body.encode()
        else:
            answer = self._answer(storage, request, body)
        self._send(*answer, fault.cut_answer_after)

    do_GET = do_POST = do_PUT = do_DELETE = _relay

    def _answer(self, storage, request, body):
        headers = {
            name: self.headers[name]
            for name in ("Range", "Content-Range", "Content-Type")
            if name in self.headers
        } | {"Host": self.headers["Host"]}
        path = self.path
        if request.query.get("uploadType") == "media" and not body:
            if request.object in storage.names(request.object):
                return 412, {}, b"the object exists"
            kind = "multipart/related; boundary=part"
            headers["Content-Type"] = kind
            name = json.dumps({"name": request.object})
            head = "Content-Type: application/json\r\n\r\n"
            body = (
                f"--part\r\n{head}{name}\r\n--part\r\n"
                "Content-Type: application/octet-stream\r\n\r\n\r\n--part--\r\n"
            ).encode()
            path = path.replace("uploadType=media", "uploadType=multipart")
        status, found, body = storage.ask(self.command, path, body, headers)
        if found.get("Range") == "bytes=0-0":
            del found["Range"]  # Nothing has arrived yet.
        if "Location" in found:  # of an upload in several requests
            found["Location"] = found["Location"].replace("http:", "https:", 1)
        if request.is_listing and status == 200:
            body = _page(json.loads(body), request.query, storage.hidden)
        return status, found, body

    def _body(self, num_bytes):
        """The body of the request; TensorFlow sends files in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(num_bytes)
        chunks = []
        # The length is empty if the program was killed.
        while size := int(self.rfile.readline() or b"0", 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _cut_upload(self, storage, body, cut_after):
        """Gives the store the first bytes only, as a lost connection does."""
        if part := body[:cut_after]:
            storage.ask(
                "PUT",
                self.path,
                part,
                {"Content-Range": f"bytes 0-{len(part) - 1}/{len(body)}"},
            )
        self._hang_up()

    def _send(self, status, headers, body, cut_after):
        self.send_response(status)
        for name in ("Location", "Range", "Content-Range", "Content-Type"):
            if name in headers:
                self.send_header(name, headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut_after is None else body[:cut_after])
        if cut_after is not None:
            self._hang_up()

    def _hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _page(listing, query, hidden):
    """One page of a listing, without the objects that are not listed yet."""
    entries = [("prefixes", name, name) for name in listing["prefixes"]] + [
        ("items", item["name"], {"name": item["name"]})
        for item in listing["items"]
        if not hidden(item["name"])
    ]
    entries.sort(key=lambda entry: entry[1])
    start = int(query.get("pageToken", "0"))
    stop = start + min(PAGE, int(query.get("maxResults", PAGE)))
    page = {"prefixes": [], "items": []}
    for kind, _, value in entries[start:stop]:
        page[kind].append(value)
    if stop < len(entries):
        page["nextPageToken"] = str(stop)
    return json.dumps(page).encode()


# ------------------------------------------------------------------ programs


# Imports once what takes longest. Each line of JSON on the input is a program,
# which runs in a fork.
_CLIENT = """
import json, os, sys, traceback
import tensorflow as tf
from bert_pretrain import command_line, evaluate, export, train
from tfrecord_builders import build
import helpers.builds, helpers.training
print("ready", flush=True)
for line in sys.stdin:
    text, variables, out, err = json.loads(line)
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    for number, path in enumerate(["/dev/null", out, err]):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(variables)
    code = 1
    try:
        exec(compile(text, "<program>", "exec"), {"__name__": "program"})
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
"""


class Client:
    """Programs that use gs://, each in a fork of a process with TensorFlow.

    Some of TensorFlow's variables count when it is imported, so they must be
    in the environment of this process.
    """

    def __init__(self, folder, environment):
        self._folder = folder
        tests = os.path.dirname(os.path.dirname(__file__))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PYTHONPATH": os.pathsep.join(
                    [tests, os.environ.get("PYTHONPATH", "")]
                ),
                **environment,
            },
        )
        assert self._answer() == "ready"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, program, **variables):
        """Runs a program to its end, as `subprocess.run` does."""
        out, err = self._folder / "stdout", self._folder / "stderr"
        line = json.dumps([program, variables, str(out), str(err)])
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return subprocess.CompletedProcess(
            program, int(self._answer()), out.read_text(), err.read_text()
        )

    def _answer(self):
        return self._process.stdout.readline().strip()


# ------------------------------------------------------------------ transport


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _tls(path):
    """A server's TLS under a new certificate, which is written to `path`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "storage")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName(host) for host in _HOSTS]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with open(path, "wb") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
    with open(f"{path}.key", "wb") as file:
        file.write(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, f"{path}.key")
    return context
