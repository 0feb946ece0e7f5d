/**
 * The messages of etcd's API (v3) that a registry needs, as a trimmed .proto.
 *
 * Holds: names and field numbers of etcd's rpc.proto and kv.proto; what a registry does not use is
 * left out, and protobuf skips it. Invariant: 64-bit numbers are decimal text on our side. Cost: the
 * text is parsed once per process, at the first use of etcd.
 */
import protobuf from 'protobufjs';

const PROTO = `
syntax = "proto3";
package etcdserverpb;
message ResponseHeader { int64 revision = 3; }
message KeyValue { bytes key = 1; int64 mod_revision = 3; bytes value = 5; int64 lease = 6; }
message Event { int32 type = 1; KeyValue kv = 2; }
message RangeRequest { bytes key = 1; bytes range_end = 2; int64 limit = 3; int64 revision = 4; bool keys_only = 8; }
message RangeResponse { ResponseHeader header = 1; repeated KeyValue kvs = 2; bool more = 3; }
message PutRequest { bytes key = 1; bytes value = 2; int64 lease = 3; }
message PutResponse { ResponseHeader header = 1; }
message DeleteRangeRequest { bytes key = 1; bytes range_end = 2; }
message DeleteRangeResponse { ResponseHeader header = 1; int64 deleted = 2; }
message LeaseGrantRequest { int64 TTL = 1; int64 ID = 2; }
message LeaseGrantResponse { ResponseHeader header = 1; int64 ID = 2; int64 TTL = 3; string error = 4; }
message LeaseRevokeRequest { int64 ID = 1; }
message LeaseRevokeResponse { ResponseHeader header = 1; }
message LeaseKeepAliveRequest { int64 ID = 1; }
message LeaseKeepAliveResponse { ResponseHeader header = 1; int64 ID = 2; int64 TTL = 3; }
message WatchCreateRequest { bytes key = 1; bytes range_end = 2; int64 start_revision = 3; bool progress_notify = 4; }
message WatchRequest { oneof request_union { WatchCreateRequest create_request = 1; } }
message WatchResponse { ResponseHeader header = 1; int64 watch_id = 2; bool created = 3; bool canceled = 4; int64 compact_revision = 5; string cancel_reason = 6; repeated Event events = 11; }
message AuthenticateRequest { string name = 1; string password = 2; }
message AuthenticateResponse { ResponseHeader header = 1; string token = 2; }
`;

interface Header {
  readonly revision: string;
}

export interface EtcdKeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly lease: string;
}

export interface EtcdEvent {
  /** 0 is a put, 1 a removal. */
  readonly type: number;
  readonly kv: EtcdKeyValue;
}

export interface EtcdWatchResponse {
  readonly header: Header | null;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compact_revision: string;
  readonly cancel_reason: string;
  readonly events: readonly EtcdEvent[];
}

/** Each method that we call: its request and its response. */
export interface EtcdMethods {
  'KV/Range': [
    { key: Buffer; range_end?: Buffer; limit?: number; revision?: string; keys_only?: boolean },
    { header: Header | null; kvs: EtcdKeyValue[]; more: boolean },
  ];
  'KV/Put': [{ key: Buffer; value: Buffer; lease?: string }, { header: Header | null }];
  'KV/DeleteRange': [{ key: Buffer; range_end?: Buffer }, { deleted: string }];
  'Lease/LeaseGrant': [{ TTL: number }, { ID: string; TTL: string; error: string }];
  'Lease/LeaseRevoke': [{ ID: string }, object];
  'Lease/LeaseKeepAlive': [{ ID: string }, { ID: string; TTL: string }];
  'Watch/Watch': [
    {
      create_request: {
        key: Buffer;
        range_end: Buffer;
        start_revision: string;
        progress_notify: boolean;
      };
    },
    EtcdWatchResponse,
  ];
  'Auth/Authenticate': [{ name: string; password: string }, { token: string }];
}

export type EtcdMethod = keyof EtcdMethods;

export interface EtcdCodec {
  readonly path: string;
  readonly encode: (message: object) => Buffer;
  readonly decode: (bytes: Buffer) => object;
}

const codecs = new Map<EtcdMethod, EtcdCodec>();
let root: protobuf.Root | null = null;

export function etcdCodec(method: EtcdMethod): EtcdCodec {
  let codec = codecs.get(method);
  if (codec === undefined) {
    root ??= protobuf.parse(PROTO, { keepCase: true }).root;
    const name = method.slice(method.indexOf('/') + 1);
    const request = root.lookupType(`etcdserverpb.${name}Request`);
    const response = root.lookupType(`etcdserverpb.${name}Response`);
    codec = {
      path: `/etcdserverpb.${method}`,
      encode: (message) => Buffer.from(request.encode(request.fromObject(message)).finish()),
      decode: (bytes) =>
        response.toObject(response.decode(bytes), { longs: String, defaults: true }),
    };
    codecs.set(method, codec);
  }
  return codec;
}
