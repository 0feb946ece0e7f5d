/** A stream whose bytes are there from the start, in pieces. */
import type { GossipStream } from '../../../src/registry/gossip/wire/network.ts';

export function streamOf(bytes: Uint8Array, piece = bytes.length): GossipStream {
  let offset = 0;
  return {
    async read() {
      if (offset >= bytes.length) return null;
      const chunk = bytes.subarray(offset, offset + Math.max(1, piece));
      offset += chunk.length;
      return chunk;
    },
    async write() {},
    close() {},
  };
}
