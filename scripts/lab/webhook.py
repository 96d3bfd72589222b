"""A webhook of the lab: takes notices, checks their signatures as docs/alerts.md says, writes a line each.

python webhook.py PORT FILE SECRET
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

PORT, FILE, SECRET = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]


class Handler(BaseHTTPRequestHandler):
    """One notice a request."""

    def do_POST(self) -> None:  # the library's name
        """Take a notice."""
        at_s, body = time.time(), self.rfile.read(int(self.headers["Content-Length"]))
        said = dict(part.split("=") for part in self.headers["Pathgrade-Signature"].split(","))
        right = hmac.new(SECRET.encode(), said["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
        good = hmac.compare_digest(said["v1"], right) and abs(at_s - int(said["t"])) <= 300
        with FILE.open("a") as out:
            out.write(json.dumps({"at_s": at_s, "good": good, "notice": json.loads(body)}) + "\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
