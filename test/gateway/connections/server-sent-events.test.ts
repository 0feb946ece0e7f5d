/** Server-sent events as text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sseEvent } from '../../../src/gateway/handlers/server-sent-events.ts';
import { Random } from '../../../src/util/random.ts';
import { seedsOf } from '../../helpers/seed.ts';

test('each line of any data stands behind its own field, whatever ends it', (t) => {
  const parts = ['\n', '\r', '\r\n', 'a', 'é', '😀', 'data: ', ' ', ''];
  for (const seed of seedsOf(t, 500)) {
    const random = new Random(seed);
    const draw = () => parts[random.uint32() % parts.length] as string;
    const data = Array.from({ length: random.uint32() % 12 }, draw).join('');
    const lines = data.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`);
    assert.equal(sseEvent({ id: '1', data }), `id: 1\n${lines.join('')}\n`);
  }
});

test('a body of eight million line ends is an event of as many lines', () => {
  const event = sseEvent({ data: '\r'.repeat(8_000_000) });
  assert.equal(event.length, 7 * 8_000_001 + 1);
});
