/**
 * Compressed bodies: gzip and deflate, with a bound on what comes out.
 *
 * Invariant: a body that is cut off, damaged, or grows beyond `limit` is an error, never a part of a
 * message. Cost: decompression on the loop, at most `limit` bytes of output.
 */
import { gunzipSync, inflateSync } from 'node:zlib';
import { RivuletError } from '../errors.ts';

const KNOWN = new Map([
  ['gzip', gunzipSync],
  ['x-gzip', gunzipSync],
  ['deflate', inflateSync],
]);

/** Throws DECODING_FAILED, BODY_TOO_LARGE, or UNSUPPORTED for an encoding that is not known. */
export function inflate(encoding: string, body: Uint8Array, limit: number): Uint8Array {
  const run = KNOWN.get(encoding);
  if (run === undefined) {
    const shown = JSON.stringify(encoding.slice(0, 50));
    const text = `the compression ${shown} is not known; known are gzip and deflate`;
    throw new RivuletError('UNSUPPORTED', text, { sent: 'no' });
  }
  try {
    return run(body, { maxOutputLength: limit });
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ERR_BUFFER_TOO_LARGE') {
      const text = `the body has more than ${limit} bytes when it is decompressed`;
      throw new RivuletError('BODY_TOO_LARGE', text, { cause, sent: 'no' });
    }
    throw new RivuletError('DECODING_FAILED', `the body is not ${encoding}`, { cause, sent: 'no' });
  }
}
