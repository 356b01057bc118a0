"""Answers as yagna does while it starts and runs; for tests of what keeps it."""

import http.server
import socket
import sys
import time

PORT, HOLD = int(sys.argv[1]), sys.argv[2]


class Handler(http.server.BaseHTTPRequestHandler):
    """Any path gets 200; `/slow` never ends."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(1000)
        body = ",".join(sorted(name for _, name in socket.if_nameindex())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


print("stand-in starts", flush=True)
if HOLD == "fails":
    sys.exit("no database")
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
