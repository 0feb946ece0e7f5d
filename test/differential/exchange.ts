/**
 * At the end of a sequence each server gets the other's values by DUMP and RESTORE, and both have to
 * say of them what they say of their own.
 */
import { RespSession } from '../helpers/resp-session.ts';
import type { Comparer } from './compare.ts';

const KEYS = ['s1', 's2', 's3', 's4', 'k1', 'k2', 'k3'];
const MOVED = 'moved';

export interface ExchangeDifference {
  readonly redis: string;
  readonly rivulet: string;
}

export async function compareExchanged(
  redisPort: number,
  rivuletPort: number,
  comparer: Comparer,
): Promise<ExchangeDifference | undefined> {
  await using redis = await RespSession.open(redisPort);
  await using rivulet = await RespSession.open(rivuletPort);
  for (const key of KEYS) {
    const [one, other] = await Promise.all([redis.call('DUMP', key), rivulet.call('DUMP', key)]);
    if (one.length < 12 && other.length < 12) continue;
    const restored = await Promise.all([
      redis.text('RESTORE', MOVED, 0, bytesOf(other), 'REPLACE'),
      rivulet.text('RESTORE', MOVED, 0, bytesOf(one), 'REPLACE'),
    ]);
    // A dump with what only a newer Redis knows is refused by an older one.
    const isTooNew = /^-ERR DUMP payload version/.test(restored[0]);
    if (isTooNew) restored[0] = '+OK\r\n';
    if (restored.some((reply) => reply !== '+OK\r\n')) {
      return { redis: `RESTORE of ${key}: ${restored[0]}`, rivulet: restored[1] };
    }
    const look = key.startsWith('k') ? ['GET'] : ['XINFO', 'STREAM'];
    const more = key.startsWith('k') ? [] : ['FULL', 'COUNT', '0'];
    const [own, moved] = await Promise.all([
      redis.call(...look, key, ...more),
      rivulet.call(...look, MOVED, ...more),
    ]);
    if (!comparer.areEqual(own, moved, [...look, key, ...more])) {
      return {
        redis: `${key} moved: ${own.toString('latin1')}`,
        rivulet: moved.toString('latin1'),
      };
    }
    if (isTooNew) continue;
    const back = await redis.call(...look, MOVED, ...more);
    if (!comparer.areSame(own, back, [...look, key, ...more], ['active-time'])) {
      return {
        redis: `${key} moved: ${back.toString('latin1')}`,
        rivulet: `own: ${own.toString('latin1')}`,
      };
    }
    await Promise.all([redis.call('DEL', MOVED), rivulet.call('DEL', MOVED)]);
  }
  return undefined;
}

/** The bytes of a bulk string. */
function bytesOf(reply: Buffer): Buffer {
  return reply.subarray(reply.indexOf('\r\n') + 2, reply.length - 2);
}
