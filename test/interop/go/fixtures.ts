/**
 * What the Go programs sent, as record-fixtures.ts wrote it: one file for each version of go-micro.
 *
 * Bytes are text in latin1, one character for each byte, so that a difference can be read; packets of
 * mDNS are base64.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '../../house/source-file.ts';
import type { GoMicro } from './go-programs.ts';

export interface GrpcRequest {
  readonly headers: Record<string, string>;
  readonly body: string;
}

export interface GrpcReply {
  readonly headers: Record<string, string>;
  readonly body: string;
  readonly trailers: Record<string, string>;
}

export interface EtcdEntry {
  readonly key: string;
  readonly value: string;
  readonly ttlSeconds: number;
}

export interface ConsulRequest {
  readonly method: string;
  readonly path: string;
  readonly body: string;
}

export interface GoFixtures {
  readonly goMicro: GoMicro;
  /** By the name of the call: `order`, `name`, `fail`, `none`. */
  readonly mucp: Readonly<Record<string, { readonly request: string; readonly reply: string }>>;
  /** As `mucp`, and `watch`. */
  readonly grpc: Readonly<
    Record<string, { readonly request: GrpcRequest; readonly reply: GrpcReply }>
  >;
  /** `mucp`, `grpc` (v2 only): a service of that protocol; `http`: a subscriber of the http broker. */
  readonly etcd: Readonly<Record<string, EtcdEntry>>;
  /** What a service of mucp sent to port 5353 from its start to its end. */
  readonly mdns: readonly string[];
  /** The events of `publish` on the topic `go.to.us`: one of JSON, one of protobuf. */
  readonly events: {
    /** Whole requests of HTTP. */
    readonly http: readonly string[];
    readonly nats: readonly string[];
    readonly rabbitmq: readonly {
      readonly headers: Record<string, string>;
      readonly body: string;
    }[];
  };
  /** What a service of mucp sent to a Consul agent. */
  readonly consul: readonly ConsulRequest[];
}

export function fixturePath(version: GoMicro): string {
  return join(repositoryRoot, 'test', 'interop', 'go', 'fixtures', `go-micro-${version}.json`);
}

export function readFixtures(version: GoMicro): GoFixtures {
  return JSON.parse(readFileSync(fixturePath(version), 'utf8'));
}
