/**
 * protobufjs, loaded when the first contract from a .proto needs it.
 *
 * Loaded through `require`, which is synchronous, so that a generated file can make its types at the
 * top level. Cost: about 20 ms once; nothing for a program without protobuf.
 */
import { createRequire } from 'node:module';
import type * as Protobufjs from 'protobufjs';

export type { Protobufjs };

let loaded: typeof Protobufjs | null = null;

export function protobufjs(): typeof Protobufjs {
  loaded ??= createRequire(import.meta.url)('protobufjs') as typeof Protobufjs;
  return loaded;
}
