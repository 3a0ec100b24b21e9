"""A stand-in for the metadata server of Google's machines, on loopback."""

import http.server
import threading


class MetadataServer:
    """Serves `values`; use it as a context manager.

    The real server refuses requests without the header Metadata-Flavor, and so
    does this one.
    """

    def __init__(self):
        self.values = {"preempted": "FALSE", "maintenance-event": "NONE"}
        self.asked = threading.Event()  # is set when a value was asked for
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                key = self.path.removeprefix("/computeMetadata/v1/instance/")
                is_allowed = self.headers["Metadata-Flavor"] == "Google"
                if not is_allowed or key not in owner.values:
                    self.send_error(404 if is_allowed else 403)
                    return
                value = owner.values[key].encode()
                self.send_response(200)
                self.send_header("Metadata-Flavor", "Google")
                self.send_header("Content-Length", str(len(value)))
                self.end_headers()
                self.wfile.write(value)
                owner.asked.set()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), Handler
        )

    @property
    def environment(self):
        """The variables of a machine that has this server."""
        host, port = self._server.server_address
        return {"GCE_METADATA_HOST": f"{host}:{port}", "NO_GCE_CHECK": ""}

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
