"""A client of our gRPC port that knows no .proto: grpcio-reflection finds the services and their types.

Argument: host:port. Prints one line of JSON with what it saw.
"""

import json
import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import MessageFactory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


def main(address):
    channel = grpc.insecure_channel(address)
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    seen = {"services": sorted(database.get_services()), "methods": {}}
    for name in seen["services"]:
        seen["methods"][name] = [each.name for each in pool.FindServiceByName(name).methods]
    types = MessageFactory(pool)

    def call(service, name, **fields):
        method = pool.FindServiceByName(service).FindMethodByName(name)
        request = types.GetPrototype(method.input_type)
        reply = types.GetPrototype(method.output_type)
        path = "/%s/%s" % (service, name)
        run = channel.unary_unary(path, request.SerializeToString, reply.FromString)
        return json_format.MessageToDict(run(request(**fields), timeout=10))

    seen["order"] = call("shop.OrderSrv", "GetOrder", id=7)
    statuses = call("grpc.health.v1.Health", "List")["statuses"]
    seen["health"] = {name: each["status"] for name, each in statuses.items()}
    try:
        pool.FindServiceByName("no.Such")
    except KeyError:
        seen["unknown"] = "KeyError"
    print(json.dumps(seen))


main(sys.argv[1])
