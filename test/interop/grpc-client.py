"""A client of our gRPC port that knows no .proto: it asks reflection, as grpcurl does, and calls.

Argument: host:port. Prints one line of JSON with what it saw; every check that fails is an exception.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf.message_factory import MessageFactory


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, text):
    data = text.encode() if isinstance(text, str) else text
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(data):
    found, at = [], 0
    while at < len(data):
        key = data[at]
        at += 1
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if key & 7 == 2:
            found.append((key >> 3, data[at : at + value]))
            at += value
        else:
            found.append((key >> 3, value))
    return found


def reflect(channel, version, *requests):
    call = channel.stream_stream(
        "/grpc.reflection.%s.ServerReflection/ServerReflectionInfo" % version,
        request_serializer=None,
        response_deserializer=None,
    )
    return [dict(fields(reply)) for reply in call(iter(requests), timeout=10)]


def main(address):
    channel = grpc.insecure_channel(address)
    seen = {}

    for version in ("v1", "v1alpha"):
        listed, file, missing = reflect(
            channel, version, field(7, "*"), field(4, "shop.OrderSrv"), field(4, "no.Such")
        )
        seen["services"] = [
            dict(fields(each))[1].decode() for number, each in fields(listed[6]) if number == 1
        ]
        assert 7 in missing and dict(fields(missing[7]))[1] == 5, missing
    pool = descriptor_pool.DescriptorPool()
    waiting = [
        descriptor_pb2.FileDescriptorProto.FromString(each)
        for number, each in fields(file[4])
        if number == 1
    ]
    seen["files"] = sorted(each.name for each in waiting)
    # What a file imports is added before it.
    for each in reversed(waiting):
        pool.Add(each)
    service = pool.FindServiceByName("shop.OrderSrv")
    types = MessageFactory(pool)

    def method(name):
        found = service.FindMethodByName(name)
        request = types.GetPrototype(found.input_type)
        reply = types.GetPrototype(found.output_type)
        return "/shop.OrderSrv/" + name, request, reply

    path, request, order = method("GetOrder")
    get = channel.unary_unary(path, request.SerializeToString, order.FromString)
    reply, call = get.with_call(
        request(id=7), timeout=10, metadata=(("x-caller", "python"), ("x-text", "plain"))
    )
    seen["order"] = json_format.MessageToDict(reply)
    seen["head"] = dict(call.initial_metadata()).get("x-served-by")
    compressed = get(request(id=8, what="x" * 5000), timeout=10, compression=grpc.Compression.Gzip)
    seen["compressed"] = compressed.id

    def failure(*args, **options):
        try:
            get(*args, **options)
        except grpc.RpcError as error:
            return [error.code().name, error.details()]
        raise AssertionError("the call did not fail")

    seen["failure"] = failure(request(what="fail"), timeout=10)
    seen["late"] = failure(request(what="hang"), timeout=0.2)[0]
    seen["large"] = failure(request(what="x" * (5 << 20)), timeout=10)[0]
    nothing = channel.unary_unary("/shop.OrderSrv/None", None, None)
    try:
        nothing(b"", timeout=10)
    except grpc.RpcError as error:
        seen["unknown"] = error.code().name

    path, request, order = method("Watch")
    watch = channel.unary_stream(path, request.SerializeToString, order.FromString)
    seen["watched"] = sum(each.id for each in watch(request(id=1000), timeout=20))
    cut = watch(request(id=1 << 40), timeout=20)
    next(cut)
    cut.cancel()

    path, request, summary = method("Import")
    load = channel.stream_unary(path, request.SerializeToString, summary.FromString)
    seen["imported"] = load((request(id=n) for n in range(1000)), timeout=20).sum

    path, request, order = method("Chat")
    chat = channel.stream_stream(path, request.SerializeToString, order.FromString)
    seen["doubled"] = [each.id for each in chat((request(id=n) for n in range(5)), timeout=20)]

    # JSON over gRPC, as go-micro's clients send it.
    as_json = channel.unary_unary("/go.micro.shop.OrderSrv/GetOrder", str.encode, bytes.decode)
    seen["json"] = json.loads(as_json('{"id": "5"}', timeout=10))["id"]

    health = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
    seen["health"] = [health(b"", timeout=10)[1], health(field(1, "shop.OrderSrv"), timeout=10)[1]]
    try:
        health(field(1, "no.such"), timeout=10)
    except grpc.RpcError as error:
        seen["unhealthy"] = error.code().name
    print(json.dumps(seen))


main(sys.argv[1])
