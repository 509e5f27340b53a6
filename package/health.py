"""The health check of the container: exit with 0 if zmock answers, with 1 if it does not.

Docker runs it every few seconds. A socket takes 30 ms, an HTTP client four times as long. Proxies
are not used. With ZMOCK_CERT, zmock speaks https; the certificate is not checked.
"""

import os
import socket
import sys

port = os.environ.get("ZMOCK_PORT") or "8080"
try:
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        if os.environ.get("ZMOCK_CERT"):
            import ssl

            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
            connection = tls.wrap_socket(connection)
        connection.sendall(b"HEAD /zmock/health HTTP/1.0\r\n\r\n")
        answer = connection.recv(64)
except OSError as error:
    sys.exit(f"zmock does not answer on port {port}: {error}")
status = answer.decode(errors="replace").partition("\r\n")[0]
if " 200 " not in status:
    sys.exit(f"zmock answers {status or 'nothing'} on port {port}")
