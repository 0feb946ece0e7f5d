"""A caller that knows nothing but HTTP: mucp's headers over http.client.

Argument: host:port. Prints one line of JSON with what it saw.
"""

import http.client
import json
import sys


def main(address):
    connection = http.client.HTTPConnection(address, timeout=10)

    def call(headers, body="{}"):
        given = {"Content-Type": "application/json", **headers}
        connection.request("POST", "/", body=body, headers=given)
        reply = connection.getresponse()
        data = reply.read()
        error = reply.getheader("Micro-Error")
        return {
            "status": reply.status,
            "type": reply.getheader("Content-Type"),
            "id": reply.getheader("Micro-Id"),
            "served": reply.getheader("X-Served-By"),
            "error": json.loads(error) if error else None,
            "body": json.loads(data) if data else None,
        }

    order = {"Micro-Service": "go.micro.shop", "Micro-Endpoint": "OrderSrv.GetOrder"}
    seen = {
        "order": call({**order, "Micro-Id": "41", "X-Caller": "python"}, '{"id": 7}'),
        "again": call({**order, "Micro-Id": "42"}, '{"id": "8"}'),
        "old": call({"X-Micro-Method": "OrderSrv.GetOrder"}, '{"id": 9}'),
        "failed": call(order, '{"what": "fail"}'),
        "late": call({**order, "Timeout": "100000000"}, '{"what": "hang"}'),
        "unknown": call({"Micro-Endpoint": "OrderSrv.None"}),
        "stream": call({"Micro-Endpoint": "OrderSrv.Watch"}),
        "garbage": call(order, "{"),
        "strange": call({**order, "Content-Type": "application/x-strange"}),
    }
    print(json.dumps(seen))


main(sys.argv[1])
